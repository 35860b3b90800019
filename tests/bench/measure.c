/* SPDX-License-Identifier: BSD-3-Clause */
/* measure - the clock, percentiles, and tables as TSV or JSON. */
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench.h"

uint64_t bench_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	if (!cpu)
		return;
	CPU_ZERO(&set);
	CPU_SET((unsigned)cpu - 1, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The smallest value that so many percent of all are not above. */
static double percentile(const double *sorted, size_t n, unsigned percent)
{
	size_t rank = (n * percent + 99) / 100;

	return sorted[rank ? rank - 1 : 0];
}

struct latency bench_summary(double *samples, size_t n)
{
	qsort(samples, n, sizeof(*samples), compare);
	return (struct latency){ samples[0], percentile(samples, n, 50), percentile(samples, n, 99), samples[n - 1] };
}

double bench_median(double *values, size_t n)
{
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static unsigned rows;

static json_t *object_of(const struct field *fields, size_t n)
{
	json_t *object = json_object();

	for (size_t i = 0; i < n; i++) {
		const struct field *f = &fields[i];

		if (f->text)
			json_object_set_new(object, f->name, json_string(f->text));
		else if (!isnan(f->number))
			json_object_set_new(object, f->name, json_real(f->number));
	}
	return object;
}

void bench_row(bool json, const struct field *fields, size_t n)
{
	if (json) {
		json_t *object = object_of(fields, n);

		printf(rows ? ",\n" : "[\n");
		json_dumpf(object, stdout, JSON_REAL_PRECISION(6) | JSON_PRESERVE_ORDER);
		json_decref(object);
	} else {
		for (size_t i = 0; i < n && !rows; i++)
			printf("%s%c", fields[i].name, i == n - 1 ? '\n' : '\t');
		for (size_t i = 0; i < n; i++) {
			if (fields[i].text)
				fputs(fields[i].text, stdout);
			else if (isnan(fields[i].number))
				putchar('-');
			else
				printf("%.5g", fields[i].number);
			putchar(i == n - 1 ? '\n' : '\t');
		}
	}
	rows++;
	fflush(stdout);
}

void bench_end(bool json)
{
	if (json)
		printf(rows ? "\n]\n" : "[]\n");
}
