#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# guest.sh RESULTS NAME... - runs functional tests, JOBS at a time, inside the virtual machine; lane.sh calls it.
#
# One line for each: PASS, FAIL or SKIP, its seconds, and the end of its words when it did not pass; all its words are in
# RESULTS/NAME.log.  Fails when one did not pass: here nothing is missing, so a skip is a failure as well.
set -u

results=$1
shift
here=$(cd "$(dirname "$0")" && pwd) || exit 1

run_one() {
	local name=$1 begin=$SECONDS status word=PASS
	: >"$results/$name.running"
	bash "$here/../functional/run.sh" "$name" >"$results/$name.log" 2>&1 </dev/null
	status=$?
	rm -f "$results/$name.running"
	case $status in
	0) ;;
	77) word=SKIP ;;
	*) word=FAIL ;;
	esac
	{
		printf '%s: %s, %d s\n' $word "$name" $((SECONDS - begin))
		[ $status = 0 ] || tail -n 60 "$results/$name.log" | sed 's/^/    /'
	} >"$results/$name.said"
	cat "$results/$name.said"
	[ $status = 0 ] || : >"$results/failed"
}

for name; do
	while [ "$(jobs -pr | wc -l)" -ge "${JOBS:-2}" ]; do
		wait -n
	done
	run_one "$name" &
done
wait
# What the kernel has to say of itself is not about a test, and may explain one.
dmesg | grep -E 'BUG:|WARNING:|Oops|hung task|Out of memory|rxe.*(error|fail)' | head -n 20 | sed 's/^/the kernel: /'
[ ! -e "$results/failed" ]
