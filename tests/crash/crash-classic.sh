#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that every crash of the sequences that have broken filesystems before leaves what is allowed.
exec tests/crash/crash --mode classic --count 100
