#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Shows that random damage is noticed because checksums are: a core that ignores one fails the test of random damage.
set -u
export BRICKFS_TEST_FLIPS=${BRICKFS_TEST_FLIPS-800}
log=crash-flips.$$
trap 'rm -f "$log"' EXIT
failed=0

# The same test, and no fault: else what follows shows nothing.
if ! tests/crash/flip-mutants >"$log" 2>&1; then
	echo "FAIL: without a fault:"
	tail -n 5 "$log"
	failed=1
fi
for mutation in super-unchecked batch-unchecked; do
	BRICKFS_MUTATION=$mutation tests/crash/flip-mutants >"$log" 2>&1
	status=$?
	if [ "$status" = 1 ]; then
		echo "$mutation: noticed: $(grep -m 1 -E ':[FE]:' "$log")"
	else
		echo "FAIL: $mutation: not noticed (status $status)"
		failed=1
	fi
done
exit "$failed"
