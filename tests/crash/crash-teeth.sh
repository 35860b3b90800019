#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the crash tests notice every persist that is dropped, and every fault that is put into the core (brickfs/mutate.h).
exec tests/crash/mutants --mode teeth --count 1
