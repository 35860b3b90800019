#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# fuzz.sh TARGET... - runs the libFuzzer targets, from the top of a build directory; "make fuzz" makes and runs them.
#
#   FUZZ_SECONDS=20    each, by the clock (1200 for a long run)
#   FUZZ_SEED=1        another one: other inputs
#   FUZZ_JOBS=N        so many at once; as many as there are processors
#
# Each begins with its samples and the kept corpus; what it adds stays in tests/fuzz/libfuzzer/TARGET/corpus for the next run.
# A finding fails the run; it is shown with its bytes, so that a log is enough to get it again.
set -u
srcdir=${srcdir-.}
seconds=${FUZZ_SECONDS:-20}
seed=${FUZZ_SEED:-1}
jobs=${FUZZ_JOBS:-$(nproc)}
room=tests/fuzz/libfuzzer
failed=0
# Both are what the programs of --enable-sanitizers have, whatever the environment says.
export ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
ulimit -c 0

# One target; its verdict is what its log ends with.
run() {
	local target=$1 dir=$room/$1
	mkdir -p "$dir/corpus" "$dir/found"
	rm -rf "$dir/samples"
	# An input may keep a process from running for long on a busy machine: 300 s are no statement about speed.
	if "tests/fuzz/fuzz_$target" -c "$dir/samples" &&
		"tests/fuzz/fuzz_${target}_libfuzzer" "$dir/corpus" "$dir/samples" "$srcdir/tests/fuzz/corpus/fuzz_$target" \
			-max_total_time="$seconds" -seed="$seed" -max_len=8192 -timeout=300 -rss_limit_mb=4096 \
			-artifact_prefix="$dir/found/" -print_final_stats=1; then
		echo "VERDICT: nothing found"
	else
		echo "VERDICT: failed"
	fi >"$dir/log" 2>&1
}

# The line of the log that tells how far it came.
reached() {
	grep -aoE 'cov: [0-9]+ ft: [0-9]+' "$1" | tail -n 1
}

show() {
	local target=$1 dir=$room/$1 input
	input=$(sed -n 's/.*Test unit written to //p' "$dir/log" | tail -n 1)
	echo "FAIL: fuzz_$target: the end of $dir/log:"
	tail -n 60 "$dir/log" | cut -c 1-300 | sed 's/^/    /'
	if [ -n "$input" ] && [ -f "$input" ]; then
		echo "    To see it again, in a build directory:"
		echo "        echo $(base64 -w 0 "$input") | base64 -d >input"
		echo "        make fuzz-programs FUZZ_TARGETS=$target && tests/fuzz/fuzz_${target}_libfuzzer input"
		echo "    When it is mended, the input goes to tests/fuzz/corpus/fuzz_$target/."
	fi
}

[ $# != 0 ] || {
	echo "usage: fuzz.sh TARGET..., in a build directory (make fuzz)" >&2
	exit 2
}
for target; do
	while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
		wait -n
	done
	run "$target" &
done
wait
for target; do
	log=$room/$target/log
	if [ "$(tail -n 1 "$log")" = "VERDICT: nothing found" ]; then
		echo "PASS: fuzz_$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s (seed $seed), $(reached "$log")"
	else
		show "$target"
		failed=1
	fi
done
exit $failed
