#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the crash tests notice when the core's persists are dropped, one at a time.
exec tests/crash/crash --mode teeth --count 1
