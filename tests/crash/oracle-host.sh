#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows that what the oracle of the crash tests expects of a filesystem is what Linux does.
TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/oracle.XXXXXX") || exit 1
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
tests/crash/oracle-host --mode live --count 30
