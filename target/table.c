/* SPDX-License-Identifier: BSD-3-Clause */
/* table - a chained hash table over nodes that live in their owner's structs. */
#include "table.h"

#include <errno.h>
#include <stdlib.h>

#define TABLE_FIRST 64

static size_t slot_of(const struct table *table, uint64_t key)
{
	/* Fibonacci hashing: block numbers come in runs */
	return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 20) & table->mask;
}

int table_init(struct table *table)
{
	table->bucket = calloc(TABLE_FIRST, sizeof(*table->bucket));
	if (!table->bucket)
		return -ENOMEM;
	table->mask = TABLE_FIRST - 1;
	table->count = 0;
	return 0;
}

void table_fini(struct table *table)
{
	free(table->bucket);
	table->bucket = NULL;
	table->mask = table->count = 0;
}

static void grow(struct table *table)
{
	struct table old = *table;

	table->bucket = calloc((old.mask + 1) * 2, sizeof(*table->bucket));
	if (!table->bucket) {
		*table = old;
		return;
	}
	table->mask = old.mask * 2 + 1;
	for (size_t i = 0; i <= old.mask; i++) {
		struct table_node *node = old.bucket[i];

		while (node) {
			struct table_node *next = node->next;
			struct table_node **at = &table->bucket[slot_of(table, node->key)];

			node->next = *at;
			*at = node;
			node = next;
		}
	}
	free(old.bucket);
}

void table_insert(struct table *table, struct table_node *node, uint64_t key)
{
	struct table_node **at;

	if (table->count > table->mask)
		grow(table);
	node->key = key;
	at = &table->bucket[slot_of(table, key)];
	node->next = *at;
	*at = node;
	table->count++;
}

struct table_node *table_find(const struct table *table, uint64_t key)
{
	for (struct table_node *node = table->bucket[slot_of(table, key)]; node; node = node->next)
		if (node->key == key)
			return node;
	return NULL;
}

void table_remove(struct table *table, struct table_node *node)
{
	for (struct table_node **at = &table->bucket[slot_of(table, node->key)]; *at; at = &(*at)->next) {
		if (*at != node)
			continue;
		*at = node->next;
		table->count--;
		return;
	}
	abort(); /* a node that is not there: the table is broken */
}

struct table_node *table_any(const struct table *table)
{
	for (size_t i = 0; table->count && i <= table->mask; i++)
		if (table->bucket[i])
			return table->bucket[i];
	return NULL;
}
