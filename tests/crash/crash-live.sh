#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the core answers as the oracle does, over hundreds of random steps, full bricks and remounts.
exec tests/crash/crash --mode live --count 60
