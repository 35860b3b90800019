#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Shows that fsck -y of what a crash left, and of what a crash of that fsck left, loses nothing and ends clean; and that it is noticed when it does not.
set -u
log=crash-repair.$$
trap 'rm -f "$log"' EXIT
failed=0

run() {		# program, bricks, steps
	tests/crash/"$1" --bricks "$2" --blocks 32 --start 0 --repair 4 --no-shrink --run "$3" >"$log" 2>&1
}

steps='write /c 0 9000; tick; unlink /c'
for bricks in 1 3; do
	if ! run crash "$bricks" "$steps" || ! grep -q ' [1-9][0-9]* repairs crashed: no violation' "$log"; then
		echo "FAIL: $bricks bricks:"
		cat "$log"
		failed=1
	else
		tail -n 1 "$log"
	fi
done

# What a repair leaves that was cut off before it counts is taken for a part of the log.
export BRICKFS_MUTATION=no-log-counts
run mutants 1 "$steps"
status=$?
if [ "$status" = 1 ] && grep -q 'VIOLATION: .* then in its repair: .* log-hole' "$log"; then
	echo "$BRICKFS_MUTATION: noticed: $(grep -m 1 -o 'then in its repair.*' "$log" | cut -c 1-200)"
else
	echo "FAIL: $BRICKFS_MUTATION: not noticed (status $status)"
	cat "$log"
	failed=1
fi
exit "$failed"
