/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * table - a chained hash table over nodes that live in their owner's structs,
 * keyed by a 64-bit number that occurs once.
 *
 * No locks of its own.  Inserting never fails: when the table cannot grow for
 * lack of memory its chains get longer.
 */
#ifndef TARGET_TABLE_H
#define TARGET_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct table_node {
	struct table_node *next;
	uint64_t key;
};

struct table {
	struct table_node **bucket;
	size_t mask, count;
};

#define table_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

int table_init(struct table *table); /* -ENOMEM */
void table_fini(struct table *table); /* the nodes are the caller's */
void table_insert(struct table *table, struct table_node *node, uint64_t key);
struct table_node *table_find(const struct table *table, uint64_t key);
void table_remove(struct table *table, struct table_node *node);
/* Any node, or NULL when the table is empty: to take everything out, one by one. */
struct table_node *table_any(const struct table *table);

#endif
