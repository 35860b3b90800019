#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Shows: the brick over RDMA: what passes over tcp passes over Soft-RoCE, what a handle does not give is refused, and bricks on
# NVDIMMs keep what was persisted; in one virtual machine.
#
# lane.sh [NAME...] - in a build directory; names as for tests/functional/run.sh, else those below.
#
# It is one test of make check.  What the tests said is in tests/rdma/lane/ of the build directory.
# Environment: BRICK_TESTS, as for run.sh ("lane" is the whole lane); CI=true: a machine that cannot be started is a failure;
# LANE_LIMIT, seconds that the machine may run (2700); JOBS, how many tests run at a time (2).
set -u

here=$(cd "$(dirname "$0")" && pwd) || exit 1
SRC=$(cd "$here/../.." && pwd) || exit 1
BUILD=$PWD
results=$BUILD/tests/rdma/lane

# The long ones first: two run at a time.
lane="
	posix-rdma tree-rdma cached-rdma persist-rdma nvdimm-tcp killmount-rdma nvdimm-rdma fault-rdma fio-rdma-3-maps8 killbrick-rdma calls-rdma
	mount-rdma brickctl-rdma fence-rdma full-rdma second-rdma verbs-rdma ten-rdma load-rdma libbrick-rdma refused-rdma
"

skip() {
	echo "skipped: $*"
	[ "${CI-}" != true ] && exit 77
	echo "FAILED: with CI=true this is a failure"
	exit 1
}

names=${*:-$lane}
if [ -n "${BRICK_TESTS+set}" ] && [ $# = 0 ]; then
	wanted=
	for name in $names; do
		case " $BRICK_TESTS " in
		*" lane "* | *" $name "*) wanted+=" $name" ;;
		esac
	done
	[ -n "$wanted" ] || { echo "skipped: left out by BRICK_TESTS" && exit 77; }
	names=$wanted
fi
for program in brickfs/brickfs target/brickd tests/rdma/refused; do
	[ -x "$BUILD/$program" ] || { echo "lane.sh: $BUILD/$program is not built; run me in a build directory" && exit 1; }
done

words=$("$here/vm-run" --prepare 2>&1) || skip "no virtual machine here: ${words##*$'\n'}"
memory=4096
[ "$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)" -gt $((memory + 512)) ] ||
	skip "the virtual machine needs $memory MiB of memory"

rm -rf "$results"
mkdir -p "$results" || exit 1
begin=$SECONDS
# shellcheck disable=SC2086
"$here/vm-run" --times --limit "${LANE_LIMIT:-2700}" --memory $memory --pmem 512M:devdax --pmem 5G:ext4 --rw "$results" \
	--env SMALL=1 --env SRC="$SRC" --env BUILD="$BUILD" --env SCRATCH=/dev/shm --env JOBS="${JOBS:-2}" --env LIMIT="${LIMIT:-600}" \
	--env ASAN_OPTIONS --env UBSAN_OPTIONS --env TSAN_OPTIONS --env KEEP= --env TRACE \
	bash "$here/guest.sh" "$results" $names 2>&1
status=$?
for name in "$results"/*.running; do
	[ ! -e "$name" ] || echo "not ended: $(basename "$name" .running); its last words: $(tail -n 3 "${name%.running}.log")"
done
passed=$(cat "$results"/*.said 2>/dev/null | grep -c '^PASS')
echo "$passed of $(wc -w <<<"$names") passed, in $((SECONDS - begin)) s with the machine's start"
[ $status = 0 ]
