#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that pages and blocks that were given up and are used again at once hold, after every crash, what is allowed (a sample).
exec tests/crash/crash --mode reuse --count 6
