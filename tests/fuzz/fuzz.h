/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * fuzz - what the fuzz targets share.  A target has LLVMFuzzerTestOneInput() and fuzz_sample(); with
 * clang it is linked with libFuzzer, with any compiler with driver.c, which damages samples, and
 * runs in make check.  A target finds by a sanitizer, by abort(), or by not coming back.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define FUZZ_INPUT_MAX 65536

extern const char fuzz_name[];
extern const unsigned long fuzz_count;	/* inputs of a run in make check */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sample n, at most FUZZ_INPUT_MAX bytes: its length. 0: there are no more. */
size_t fuzz_sample(uint8_t *buf, unsigned n);

/* A line that says what the run has reached (how much was accepted); and whether that is a test at all. May do nothing. */
int fuzz_report(unsigned long inputs);

#endif
