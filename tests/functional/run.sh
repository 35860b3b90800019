#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# run.sh TEST-TRANSPORT[-BRICKS[-mapsN]]... - runs functional tests, each in one combination.
#
# tree-tcp-3-maps8 is tests/functional/tree.sh over three bricks on tcp://, each granting 8 maps.
# TRANSPORT is tcp, unix or rdma; BRICKS is 1 when left out.  From make check, or by hand in a build directory:
#
#   make && bash ../tests/functional/run.sh tree-tcp-3 posix-unix
#
# A test is a script that sources lib.sh.  Around it, this driver makes a scratch directory and a mount namespace, in
# which /sbin has the programs of the build directory (mount(8) looks nowhere else), ends the test when it takes longer
# than LIMIT seconds, ends every process of that namespace afterwards, however it went, and with them its mounts, and
# reads what the daemons said: a line with BUG, assert, sanitizer or leak fails the test.
#
# Environment: FULL=1 full sizes, SMALL=1 sizes for a slow machine with little memory; BRICK_TESTS="NAME..." leaves all others
# out; KEEP=1 keeps the scratch directory; TRACE=1 shows every command with its time; BUILD and SRC, where the build and the source are; SCRATCH, where scratch directories
# are made; RDMA_ADDRESS, where bricks listen for rdma (10.77.0.1, the address of the machine that tests/rdma/vm-run boots).
# Exit status as automake wants it: 0 passed, 77 skipped, 1 failed.
set -u

here=$(cd "$(dirname "$0")" && pwd) || exit 1
export SRC=${SRC:-$(cd "$here/../.." && pwd)} BUILD=${BUILD:-$PWD}
export FULL=${FULL-} SMALL=${SMALL-} RDMA_ADDRESS=${RDMA_ADDRESS-10.77.0.1}
LIMIT=${LIMIT:-$([ -n "$FULL" ] && echo 3600 || echo 600)}

room_mib() {
	df -BM --output=avail "$1" 2>/dev/null | tail -n 1 | tr -dc 0-9
}

# Memory is the kinder place for scratch pools, where there is enough of it.
scratch() {
	if [ -n "${SCRATCH-}" ]; then
		echo "$SCRATCH"
	elif [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ] && [ "$(room_mib /dev/shm)" -ge 6000 ] &&
		[ "$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)" -ge 6000 ]; then
		echo /dev/shm
	else
		echo "${TMPDIR:-/tmp}"
	fi
}

# The processes of the test: those in its mount namespace, which is not ours.
marked() {
	local ns ours file
	ns=$(cat "$T/state/ns" 2>/dev/null) || return
	ours=$(readlink /proc/self/ns/mnt)
	[ -n "$ns" ] && [ "$ns" != "$ours" ] || return
	ns=${ns/[/\\[} # a pattern, that matches nothing else
	find /proc/[0-9]*/ns/mnt -maxdepth 0 -lname "$ns" 2>/dev/null | while IFS=/ read -r _ _ file _; do
		echo "$file"
	done
}

# kill_marked: first the filesystems' processes die, so that nothing hangs in a dead mount; then all others.
kill_marked() {
	local pid
	for pid in $(marked); do
		case $(cat "/proc/$pid/comm" 2>/dev/null) in
		*brickfs) kill -9 "$pid" 2>/dev/null ;;
		esac
	done
	for pid in $(marked); do
		kill -9 "$pid" 2>/dev/null
	done
}

# The namespace goes with its last process, and the mounts with it.
clean_up() {
	local tries
	for ((tries = 0; tries < 100; tries++)); do
		kill_marked
		[ -z "$(marked)" ] && break
		sleep 0.1
	done
	if [ -n "$(marked)" ]; then
		echo "run.sh: these processes could not be ended: $(marked | tr '\n' ' ')"
		return 1
	fi
	cd / || return
	[ -n "${KEEP-}" ] || rm -rf --one-file-system "$T"
}

# In the new namespace: programs where mount(8) and umount(8) find them, and tables of its own; then the test.
# shellcheck disable=SC2016
inside='
	: >"$T/state/inside"
	until [ -e "$T/state/ns" ]; do sleep 0.01; done
	mkdir -p "$T/sbin" /run/mount /run/brickfs
	for program in brickfs mkfs.brickfs fsck.brickfs umount.fuse.brickfs; do
		file=$(command -v "$program")
		printf "#!/bin/sh\nexport LD_LIBRARY_PATH=%s\nexec %s \"\$@\"\n" "$LD_LIBRARY_PATH" "$file" >"$T/sbin/$program"
		chmod 755 "$T/sbin/$program"
	done
	sbin=$(readlink -f /sbin)
	mount -t overlay -o "lowerdir=$T/sbin:$sbin" overlay "$sbin" || echo "no overlay over $sbin" >"$T/state/no-sbin"
	mount -t tmpfs tmpfs /run/mount && mount -t tmpfs tmpfs /run/brickfs || exit 77
	exec bash ${TRACE:+-x} "$1"
'

# What the daemons said, and what sanitizers wrote beside them.
check_logs() {
	local bad
	bad=$(grep -aniE '\bBUG\b|assert|sanitizer|leak|runtime error:' "$T"/log/* 2>/dev/null | head -n 40)
	[ -z "$bad" ] && return 0
	echo "--- the daemons said:"
	echo "$bad"
	return 1
}

show_logs() {
	local file
	for file in "$T"/log/*; do
		[ -s "$file" ] || continue
		echo "--- $(basename "$file"), its end:"
		tail -n 25 "$file"
	done
}

run_one() {
	local name=$1 word words status=0 pid watcher
	IFS=- read -r -a words <<<"$name"
	TEST=${words[0]} TRANSPORT=tcp BRICKS=1 MAPS=
	for word in "${words[@]:1}"; do
		case $word in
		tcp | unix | rdma) TRANSPORT=$word ;;
		[1-9]) BRICKS=$word ;;
		maps*) MAPS=${word#maps} ;;
		*)
			echo "run.sh: $name: what is \"$word\"?"
			return 99
			;;
		esac
	done
	if [ ! -f "$here/$TEST.sh" ]; then
		echo "run.sh: no test $here/$TEST.sh"
		return 99
	fi
	case " ${BRICK_TESTS-$name} " in
	*" $name "*) ;;
	*)
		echo "skipped: left out by BRICK_TESTS"
		return 77
		;;
	esac
	sed -n 's/^# Shows: /'"$name"': /p' "$here/$TEST.sh"
	if [ "$(id -u)" != 0 ]; then
		echo "skipped: needs root, to mount"
		return 77
	fi
	if ! [ -c /dev/fuse ] || ! (: <>/dev/fuse) 2>/dev/null; then
		echo "skipped: needs /dev/fuse"
		return 77
	fi
	if [ "$TRANSPORT" = rdma ] && [ -z "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
		echo "skipped: no RDMA device here (tests/rdma/lane.sh runs it in a machine that has one)"
		return 77
	fi
	T=$(mktemp -d "$(scratch)/brickfs-$TEST.XXXXXX") || return 99
	trap 'clean_up; exit 1' INT TERM HUP
	chmod 755 "$T"
	mkdir -p "$T/log" "$T/pool" "$T/state"
	export T TEST TRANSPORT BRICKS MAPS TRACE=${TRACE-}
	# The programs themselves before libtool's wrappers, which take dozens of forks to start them.
	export PATH=$BUILD/target/.libs:$BUILD/brickfs/.libs:$BUILD/target:$BUILD/brickfs:$BUILD/common:$PATH
	export LD_LIBRARY_PATH=$BUILD/common/.libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export ASAN_OPTIONS="log_path=$T/log/asan:${ASAN_OPTIONS-}" UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS-}"
	export TSAN_OPTIONS="log_path=$T/log/tsan:${TSAN_OPTIONS-}"

	if ! unshare --mount --propagation slave true 2>/dev/null; then
		echo "skipped: needs a mount namespace (unshare -m), a privilege of root"
		rm -rf "$T"
		return 77
	fi
	unshare --mount --propagation slave bash -c "$inside" run.sh "$here/$TEST.sh" </dev/null &
	pid=$!
	# The namespace is known by its number, which the kernel gives to another one once it is gone: so it is held, by fd 9.
	until [ -e "$T/state/inside" ] || ! kill -0 $pid 2>/dev/null; do
		sleep 0.01
	done
	exec 9<"/proc/$pid/ns/mnt" || return 99
	readlink "/proc/$pid/ns/mnt" >"$T/state/ns.new" && mv "$T/state/ns.new" "$T/state/ns"
	(
		sleep "$LIMIT" &
		trap 'kill $! 2>/dev/null' TERM
		wait $! || exit
		echo "run.sh: $name has not ended after $LIMIT seconds; waiting are:"
		for pid in $(marked); do
			echo "    $pid $(cat "/proc/$pid/comm" "/proc/$pid/wchan" 2>/dev/null | tr '\n' ' ')"
		done
		: >"$T/state/late"
		kill_marked
	) &
	watcher=$!
	wait $pid
	status=$?
	kill $watcher 2>/dev/null
	wait $watcher 2>/dev/null
	[ -e "$T/state/late" ] && status=1
	[ $status = 77 ] || check_logs || status=1
	[ $status = 0 ] || [ $status = 77 ] || show_logs
	clean_up || status=1
	case $status in
	0) echo "$name: passed" ;;
	77) ;;
	*)
		echo "$name: FAILED with status $status"
		status=1
		;;
	esac
	return $status
}

[ $# -gt 0 ] || {
	sed -n '4,21s/^# \{0,1\}//p' "$0"
	exit 2
}
for tool in brickfs/brickfs target/brickd; do
	[ -x "$BUILD/$tool" ] || {
		echo "run.sh: $BUILD/$tool is not built; run me in a build directory, or set BUILD"
		exit 99
	}
done
worst=0
for name; do
	(run_one "$(basename "$name" .run)")
	status=$?
	if [ $# = 1 ]; then
		exit $status
	fi
	[ $status = 0 ] || [ $status = 77 ] || worst=1
done
exit $worst
