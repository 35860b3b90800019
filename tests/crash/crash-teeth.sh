#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the crash tests notice when one of the core's persists is dropped.
exec tests/crash/crash --mode teeth --count 1
