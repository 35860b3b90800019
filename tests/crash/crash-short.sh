#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that every crash of short sequences of steps leaves what is allowed (a sample; README.md has the deep run).
exec tests/crash/crash --mode short --count 40
