# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# lib.sh - what the functional tests share: bricks, filesystems, mounts, and how to say what went wrong.
#
# Sourced by each test; run.sh has set T (scratch directory), TRANSPORT (tcp, unix, rdma), BRICKS (how many), MAPS (maps
# that each brick grants, or empty), FULL (full sizes when not empty), SMALL (small sizes when not empty), SRC and BUILD.  Nothing here needs to be undone
# by the test: it runs in a mount namespace of its own, and run.sh ends all processes of that.
#
# Bricks are called b1, b2, ...; mounts are called by a name too (m, other), at $T/NAME.  What they say is in $T/log.
set -u
# shellcheck disable=SC2016
[ -z "$TRACE" ] || PS4='+${EPOCHREALTIME:6:8} '

fail() {
	echo "FAILED: $*"
	local i
	for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
		echo "    at ${BASH_SOURCE[i]##*/}:${BASH_LINENO[i - 1]} ${FUNCNAME[i]}"
	done
	exit 1
}

skip() {
	echo "skipped: $*"
	exit 77
}

say() {
	echo "$*"
}

need() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || skip "$tool is missing; ./quickstart check installs it"
	done
}

# sized NORMAL SMALL: the one that fits this machine.
sized() {
	[ -n "$SMALL" ] && echo "$2" || echo "$1"
}

# must COMMAND...: it has to succeed; what it says is shown when it does not.
must() {
	local words status
	words=$("$@" 2>&1)
	status=$?
	[ $status = 0 ] || {
		printf '%s\n' "$words" | tail -n 40
		fail "\"$*\" ended with status $status"
	}
}

# refused PATTERN COMMAND...: it (a program or a function) has to fail, and to say something that matches the pattern (grep -iE).
refused() {
	local pattern=$1 words status
	shift
	if [ "$(type -t "$1")" = function ]; then
		words=$("$@" 2>&1)
	else
		words=$(timeout -k 5 90 "$@" 2>&1)
	fi
	status=$?
	[ $status != 0 ] || fail "\"$*\" should have been refused, and was not: $words"
	[ $status -lt 124 ] || [ $status = 126 ] || fail "\"$*\" should have been refused; it ended with status $status: $words"
	grep -qiE -- "$pattern" <<<"$words" || fail "\"$*\" was refused, but does not say $pattern: $words"
	say "refused, as it should: ${words##*$'\n'}"
}

# soon SECONDS COMMAND...: it has to succeed within so many seconds (a limit against hanging, not a measurement).
soon() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

alive() {
	[ -d "/proc/$1" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

gone() {
	! alive "$1"
}

# --- bricks -----------------------------------------------------------------------------------------------------

declare -A brick_pid brick_port brick_rdma_port brick_options brick_pool

# pool_of NAME: in the scratch directory, unless the test has said where, in brick_pool.
pool_of() {
	echo "${brick_pool[$1]-$T/pool/$1}"
}

# new_port NAME MARKER PREFIX: the port in what brickd said, after MARKER bytes of its log, of an endpoint that begins so.
new_port() {
	tail -c +$(($2 + 1)) "$T/log/brickd-$1" | grep -oE "$3:[1-9][0-9]*" | head -n 1 | sed 's/.*://'
}

# brick_serve NAME: starts brickd on the brick's pool; on the ports it had before, if it had any.
brick_serve() {
	local name=$1 log=$T/log/brickd-$1 marker options listen
	read -r -a options <<<"${brick_options[$name]-}"
	listen=(--listen "unix:$T/$name.sock" --listen "tcp://127.0.0.1:${brick_port[$name]-0}")
	[ "$TRANSPORT" != rdma ] || listen+=(--listen "rdma://$RDMA_ADDRESS:${brick_rdma_port[$name]-0}" --public)
	touch "$log"
	marker=$(wc -c <"$log")
	brickd --pool "$(pool_of "$name")" "${listen[@]}" "${options[@]}" >>"$log" 2>&1 &
	brick_pid[$name]=$!
	listens() {
		! alive "${brick_pid[$name]}" && return 0
		[ -S "$T/$name.sock" ] && tail -c +$((marker + 1)) "$log" | grep -qE 'tcp://127\.0\.0\.1:[1-9][0-9]*' &&
			brickctl -b "unix:$T/$name.sock" stat
	}
	soon 60 listens || fail "brickd $name does not serve: $(tail -n 5 "$log")"
	alive "${brick_pid[$name]}" || {
		wait "${brick_pid[$name]}"
		fail "brickd $name ended with status $?: $(tail -n 5 "$log")"
	}
	brick_port[$name]=$(new_port "$name" "$marker" 'tcp://127\.0\.0\.1')
	[ "$TRANSPORT" != rdma ] || brick_rdma_port[$name]=$(new_port "$name" "$marker" "rdma://$RDMA_ADDRESS")
}

# start_brick NAME SIZE [brickd option...]: makes a pool, if there is none, and serves it.
start_brick() {
	local name=$1 size=$2
	shift 2
	brick_options[$name]="${MAPS:+--max-maps $MAPS} $*"
	[ -e "$(pool_of "$name")" ] || must brickd --pool "$(pool_of "$name")" --create "$size"
	brick_serve "$name"
}

# stop_brick NAME: SIGTERM, and it has to end cleanly.
stop_brick() {
	local pid=${brick_pid[$1]}
	kill "$pid" || fail "brickd $1 ($pid) is gone"
	soon 60 gone "$pid" || fail "brickd $1 ($pid) has not ended a minute after SIGTERM"
	wait "$pid"
	local status=$?
	[ $status = 0 ] || fail "brickd $1 ended with status $status after SIGTERM"
}

kill9_brick() {
	kill -9 "${brick_pid[$1]}" || fail "brickd $1 is gone"
	wait "${brick_pid[$1]}" 2>/dev/null
	return 0
}

# endpoint NAME [tcp|unix|rdma]
endpoint() {
	case ${2:-$TRANSPORT} in
	tcp) echo "tcp://127.0.0.1:${brick_port[$1]}" ;;
	unix) echo "unix:$T/$1.sock" ;;
	rdma) echo "rdma://$RDMA_ADDRESS:${brick_rdma_port[$1]}" ;;
	esac
}

# another NAME: the brick's endpoint of another transport than the test's.
another() {
	[ "$TRANSPORT" = tcp ] && endpoint "$1" unix || endpoint "$1" tcp
}

# start_bricks SIZE [option...]: as many as BRICKS says, SIZE (in MiB) shared out among them; sets EP to their endpoints.
start_bricks() {
	local size=$1 i
	shift
	EP=
	for ((i = 1; i <= BRICKS; i++)); do
		start_brick b$i $((size / BRICKS))M "$@"
		EP+=${EP:+,}$(endpoint b$i)
	done
}

ctl() {
	brickctl -b "$(endpoint "$1")" "${@:2}"
}

# Blocks allocated on all bricks.
used_blocks() {
	local i used=0 one
	for ((i = 1; i <= BRICKS; i++)); do
		one=$(ctl b$i --json list | jq '[.. | objects | select(has("count")) | .count | tonumber] | add // 0') ||
			fail "brickctl list of b$i"
		used=$((used + one))
	done
	echo $used
}

# one_sided: over rdma, not one byte of data has passed through a processor of the bricks; over tcp it has, and that is counted.
one_sided() {
	local i rows
	[ "$TRANSPORT" != unix ] || return 0
	for ((i = 1; i <= BRICKS; i++)); do
		rows=$(ctl b$i --json stat | jq -c '[.ops[] | select(.op == "read" or .op == "write") | .count, .bytes]') ||
			fail "brickctl stat of b$i"
		case $TRANSPORT$rows in
		rdma'[0,0,0,0]') say "brickctl stat of b$i: no read and no write passed through brickd" ;;
		rdma*) fail "data passed through brickd b$i: count and bytes of read, of write: $rows" ;;
		'tcp[0,'* | 'tcp['*,0]) fail "brickd b$i does not count what passes through it: $rows" ;;
		esac
	done
}

# --- filesystems ------------------------------------------------------------------------------------------------

declare -A mount_pid mount_log

make_fs() {
	must mkfs.brickfs "$@" "$EP"
}

# mount_fs [-n NAME] [-e ENDPOINTS] [OPTIONS]: brickfs in the foreground, its words in a file; its process is our child.
mount_fs() {
	local name=m ep=$EP dir log said
	while [ $# -gt 0 ]; do
		case $1 in
		-n) name=$2 && shift 2 ;;
		-e) ep=$2 && shift 2 ;;
		*) break ;;
		esac
	done
	dir=$T/$name
	log=$T/log/brickfs-$name
	mkdir -p "$dir" 2>/dev/null
	said=$(grep -c " mounted on $dir$" "$log" 2>/dev/null)
	brickfs "$ep" "$dir" -f ${1:+-o "$1"} >>"$log" 2>&1 &
	mount_pid[$name]=$!
	# It looks at the directory before it says so; until then an unmount finds it busy.
	mount_ready() {
		! alive "${mount_pid[$name]}" ||
			{ [ "$(grep -c " mounted on $dir$" "$log")" -gt "${said:-0}" ] && mountpoint -q "$dir" && stat -f "$dir"; }
	}
	soon 90 mount_ready || fail "brickfs has not mounted $dir: $(tail -n 5 "$log")"
	alive "${mount_pid[$name]}" || {
		wait "${mount_pid[$name]}"
		fail "brickfs ended with status $? and has not mounted $dir: $(tail -n 5 "$log")"
	}
	M=$dir
}

# umount_fs [NAME]: and the daemon has to end cleanly.
umount_fs() {
	local name=${1:-m} status
	must umount "$T/$name"
	soon 120 gone "${mount_pid[$name]}" || fail "brickfs of $name has not ended two minutes after umount"
	wait "${mount_pid[$name]}"
	status=$?
	[ $status = 0 ] || fail "brickfs of $name ended with status $status: $(tail -n 5 "$T/log/brickfs-$name")"
}

# kill9_mount [NAME]: the daemon dies as it stands, and what is left of the mount is taken away.
kill9_mount() {
	local name=${1:-m}
	kill -9 "${mount_pid[$name]}" || fail "brickfs of $name is gone"
	wait "${mount_pid[$name]}" 2>/dev/null
	umount -l "$T/$name" 2>/dev/null
	return 0
}

# mount8 [-n NAME] [-e ENDPOINTS] [OPTIONS]: through mount(8), as people do; its daemon is found by its directory.
mount8() {
	local name=m ep=$EP
	while [ $# -gt 0 ]; do
		case $1 in
		-n) name=$2 && shift 2 ;;
		-e) ep=$2 && shift 2 ;;
		*) break ;;
		esac
	done
	[ ! -e "$T/state/no-sbin" ] || skip "cannot put the built programs where mount(8) looks: $(cat "$T/state/no-sbin")"
	mkdir -p "$T/$name" 2>/dev/null
	M=$T/$name
	mount -t fuse.brickfs "$ep" "$M" ${1:+-o "$1"} || return
	mountpoint -q "$M" || fail "mount says yes, but nothing is mounted at $M"
	mount_pid[$name]=$(daemon_of "$M")
	[ -n "${mount_pid[$name]}" ] || fail "no brickfs process serves $M"
}

# The brickfs process that serves a directory.
daemon_of() {
	local dir pid
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		case $(cat "$dir/comm" 2>/dev/null) in
		*brickfs) { tr '\0' '\n' <"$dir/cmdline"; } 2>/dev/null | grep -qxF -- "$1" && echo "$pid" && return ;;
		esac
	done
}

# umount8 [NAME]: as umount(8) with brickfs' helper does: back when the daemon is done.
umount8() {
	local name=${1:-m}
	must umount "$T/$name"
	soon 120 gone "${mount_pid[$name]}" || fail "brickfs of $name has not ended two minutes after umount"
}

# fsck_clean: nobody has it mounted; not one problem may be found.
fsck_clean() {
	local words status
	words=$(fsck.brickfs -n "$EP" 2>&1)
	status=$?
	[ $status = 0 ] || {
		printf '%s\n' "$words" | tail -n 40
		fail "fsck.brickfs -n ended with status $status"
	}
	say "fsck.brickfs -n: ${words##*$'\n'}"
}

# same_tree A B: contents, owners, modes, times, links, extended attributes.
same_tree() {
	local differs
	differs=$(rsync -acniHX --delete "$1/" "$2/" 2>&1) || fail "rsync of $1 and $2: $(tail -n 5 <<<"$differs")"
	[ -z "$differs" ] || fail "$1 and $2 differ: $(head -n 20 <<<"$differs")"
}

# What is free for users on a mount, in KiB.
free_kib() {
	stat -f -c '%a %S' "$1" | awk '{ print $1 * $2 / 1024 }'
}

# --- what a brick holds, by brickctl ----------------------------------------------------------------------------

# Allocated addresses of a brick, one a line, in hex.
addresses() {
	local start count i
	ctl "$1" --json list | jq -r '.. | objects | select(has("count")) | "\(.start) \(.count)"' | while read -r start count; do
		for ((i = 0; i < count; i++)); do
			printf '0x%016x\n' $((start + (i << 21)))
		done
	done
}

# ctl_read BRICK ADDRESS OFFSET LENGTH >bytes
ctl_read() {
	ctl "$1" read "$2" --offset "$3" --length "$4"
}

# ctl_write BRICK ADDRESS OFFSET <bytes
ctl_write() {
	ctl "$1" write "$2" --offset "$3" --persist
}

# The address of the superblock on every brick: brickfs-format(5).
superblock=0x1000000000000000
