#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that every crash of longer random workloads leaves what is allowed (a sample).
exec tests/crash/crash --mode random --count 3
