#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the core answers as the oracle does, over thousands of random steps, on full bricks and after remounts.
exec tests/crash/crash --mode live --count 40
