# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: what was fsynced is there and no byte is ever wrong, while bricks and mounts are killed, stopped and cut off at random, for as long as one likes
#
# Three programs that know what must be there (soak.c) and fio with --verify work on one mount. Every few seconds one random fault:
# kill -9 of brickd, of all, of one again while the mount reconnects; its restart in order; SIGSTOP of brickd or brickfs; connections that
# break, one or all; a session that is revoked; kill -9 of brickfs, also while it mounts or reconnects, together with a brickd, or while one is
# stopped; umount and mount; kill -9 of one of the programs. After each end of a mount fsck.brickfs -n looks first, then everything is
# read and compared. While bricks come and go no call may fail: it waits.
#
# SOAK_SECONDS (120) how long; SOAK_SEED (random); SOAK_PAUSE="5 20" seconds between faults (2 to 8 in short ones);
# SOAK_FAULTS="brick mount" only these kinds; SOAK_BRICKD="--memory 32M" more options for brickd; with --fault among them, bricks and mount
# die together, and what was not persisted is lost;
# SOAK_DIR=DIR the pools, journals and logs are kept there, and what is there already is gone on with. By hand:
#
#   SOAK_SECONDS=2400 SOAK_SEED=7 LIMIT=3000 bash run.sh soak-unix-3
#   bash soak.sh --resume DIR       # in the build directory; DIR is that of a soak that failed, was ended, or had SOAK_DIR
set -u

if [ "${1-}" = --resume ]; then
	dir=$(cd "${2:?--resume needs the directory of a soak}" && pwd) || exit 2
	[ -s "$dir/combination" ] || {
		echo "soak: $dir has no soak that could be resumed (there is no file \"combination\" in it)"
		exit 2
	}
	seconds=${SOAK_SECONDS:-120}
	SOAK_DIR=$dir SOAK_SECONDS=$seconds LIMIT=${LIMIT:-$((seconds * 3 / 2 + 900))} \
		exec bash "$(dirname "$0")/run.sh" "$(cat "$dir/combination")"
fi
. "$SRC/tests/functional/lib.sh"

need fio jq
program=$BUILD/tests/functional/soak
[ -x "$program" ] || fail "$program is not built"
seconds=${SOAK_SECONDS:-120}
seed=${SOAK_SEED:-$RANDOM}
# A short one has to have all kinds of faults too.
read -r pause_from pause_to <<<"${SOAK_PAUSE:-$([ "$seconds" -gt 300 ] && echo 5 20 || echo 2 8)}"
workers=3
patience=300 # seconds; a limit against hanging
options=timeo=600

# Everything that is needed to go on, or to find out what happened, is in one directory beside the test's own.
resumed=
if [ -n "${SOAK_DIR-}" ]; then
	mkdir -p "$SOAK_DIR" || fail "cannot make $SOAK_DIR"
	D=$(cd "$SOAK_DIR" && pwd)
	[ -s "$D/combination" ] && resumed=1
else
	D=$(mktemp -d "$(dirname "$T")/soak-$seed.XXXXXX") || fail "mktemp"
fi
mkdir -p "$D/pool" "$D/fio" "$D/log"
rm -rf "$T/log" && ln -s "$D/log" "$T/log"
if [ -n "$resumed" ]; then
	SOAK_BRICKD=$(cat "$D/brickd-options")
else
	echo "${SOAK_BRICKD-}" >"$D/brickd-options"
fi
read -r -a brickd_options <<<"${SOAK_BRICKD-}"
# Of bricks that lose what was not persisted, one that dies alone is the end of the mount (fault.sh): all of them die, and the mount too.
case " ${SOAK_BRICKD-} " in
*" --fault "*) usual="power power power mount mount stopped-mount remount stop-brick stop-mount cut revoke worker" ;;
*) usual="brick brick brick2 bricks restart stop-brick stop-mount cut cut revoke mount mount mount-brick brick-mount stopped-mount remount worker" ;;
esac
read -r -a kinds <<<"${SOAK_FAULTS:-$usual}"
dead=$D/dead
began=$SECONDS
now=start
declare -A faults
for ((i = 1; i <= BRICKS; i++)); do
	# shellcheck disable=SC2034,SC2154
	brick_pool[b$i]=$D/pool/b$i
done

note() {
	printf '%s %6d s  %s\n' "$(date -u +%T)" $((SECONDS - began)) "$*" >>"$D/timeline"
}

finished=
# shellcheck disable=SC2317
at_end() {
	[ -z "$finished" ] || return
	note "FAILED"
	echo "--- the last of the time line (seed $seed, resumed: ${resumed:-no}; under way: $now):"
	tail -n 30 "$D/timeline"
	grep -h FAILED "$D"/worker*.out "$D"/fio.out 2>/dev/null | tail -n 30
	tail -n 5 "$D/fio.err" 2>/dev/null
	echo "--- kept: $D (pools, journals, logs, time line); bash soak.sh --resume $D goes on with it"
}
trap at_end EXIT

# Seeded: the same faults in the same order, though never at the same instant.
RANDOM=$((seed % 32768))
# shellcheck disable=SC2120
random() {
	R=$(((RANDOM * 32768 + RANDOM) % $1)) # a subshell would have random numbers of its own
}

# --- what works on the mount ---

declare -A worker_pid
fio_pid=

start_worker() {
	"$program" work --top "$M/w$1" --journal "$D/journal$1" --dead "$dead" --seed "$seed" --worker "$1" --counts "$D/counts" ${2:+"$2"} \
		>>"$D/worker$1.out" 2>&1 &
	worker_pid[$1]=$!
}

# fio, again and again; what one run has finished is in $D/fio/done, one a line, and is compared after each mount.
fio_run() {
	# Its state files are left where it stands.
	(cd "$D/fio" && exec fio --name=f --directory="$M/fio/$1" --rw=randwrite --bsrange=512-64k --blockalign=512 --size=8M --numjobs=2 --randseed="$1" \
		--verify="$2" --verify_fatal=1 --verify_dump=0 --fsync=50 --end_fsync=1 --ioengine=psync --output-format=terse "${@:3}") >"$D/fio.out" 2>&1
}

fio_forever() {
	local n verify status old
	n=$(cat "$D/fio/last" 2>/dev/null || echo 0)
	while :; do
		n=$((n + 1))
		echo $n >"$D/fio/last"
		[ $((n % 2)) = 0 ] && verify=crc32c || verify=xxhash
		rm -rf "$M/fio/$n" && mkdir -p "$M/fio/$n" && fio_run $n $verify
		status=$?
		# Nothing may fail as long as the mount lives.
		[ ! -e "$dead" ] || exit 3
		[ $status = 0 ] || {
			echo "FAILED: fio run $n ended with status $status" >>"$D/fio.out"
			exit 1
		}
		echo "$n $verify" >>"$D/fio/done"
		tail -n 2 "$D/fio/done" >"$D/fio/done.new" && mv "$D/fio/done.new" "$D/fio/done"
		for old in "$M"/fio/*; do
			grep -q "^${old##*/} " "$D/fio/done" || rm -rf "$old" || [ -e "$dead" ] || exit 1
		done
		[ ! -e "$D/fio/enough" ] || exit 0
	done 2>>"$D/fio.err"
}

fio_check() {
	local n verify
	[ -e "$D/fio/done" ] || return 0
	while read -r n verify; do
		fio_run "$n" "$verify" --verify_only=1 || fail "fio run $n was finished and synced, and is not right now: $(tail -n 5 "$D/fio.out")"
		fio_verified=$((fio_verified + 16))
	done <"$D/fio/done"
}
fio_verified=0

# start_work [--fresh]
start_work() {
	local i
	for ((i = 1; i <= workers; i++)); do
		start_worker $i "$@"
	done
	rm -f "$D/fio/enough"
	fio_forever &
	fio_pid=$!
}

# Each of them has ended, or is fine.
look() {
	local i status
	for ((i = 1; i <= workers; i++)); do
		alive "${worker_pid[$i]}" && continue
		wait "${worker_pid[$i]}"
		status=$?
		fail "worker $i ended with status $status: $(tail -n 5 "$D/worker$i.out")"
	done
	alive "$fio_pid" || fail "fio ended: $(tail -n 5 "$D/fio.out")"
	alive "${mount_pid[m]}" || {
		wait "${mount_pid[m]}"
		fail "brickfs ended with status $?: $(tail -n 5 "$T/log/brickfs-m")"
	}
}

# All of them are seen to go on: their journals change.
progress() {
	local i end was
	for ((i = 1; i <= workers; i++)); do
		was=$(stat -c '%i %s' "$D/journal$i" 2>/dev/null)
		end=$((SECONDS + patience))
		while [ "$(stat -c '%i %s' "$D/journal$i" 2>/dev/null)" = "$was" ]; do
			look
			[ $SECONDS -lt $end ] || fail "worker $i does nothing for $patience seconds after: $now"
			sleep 0.1
		done
	done
	look
}

# They notice that the mount is dead; nobody else's failure is let pass.
work_is_dead() {
	local i status
	for ((i = 1; i <= workers; i++)); do
		soon $patience gone "${worker_pid[$i]}" || fail "worker $i hangs in a dead mount"
		wait "${worker_pid[$i]}"
		status=$?
		[ $status = 3 ] || fail "worker $i ended with status $status when the mount was killed: $(tail -n 5 "$D/worker$i.out")"
	done
	soon $patience gone "$fio_pid" || fail "fio hangs in a dead mount"
	wait "$fio_pid"
	status=$?
	[ $status = 3 ] || fail "fio ended with status $status when the mount was killed: $(tail -n 5 "$D/fio.out")"
}

stop_work() {
	local i
	: >"$D/fio/enough"
	for ((i = 1; i <= workers; i++)); do
		kill "${worker_pid[$i]}"
	done
	for ((i = 1; i <= workers; i++)); do
		soon $patience gone "${worker_pid[$i]}" || fail "worker $i does not end"
		wait "${worker_pid[$i]}" || fail "worker $i ended with status $?: $(tail -n 5 "$D/worker$i.out")"
	done
	soon $patience gone "$fio_pid" || fail "fio does not end"
	wait "$fio_pid" || fail "fio ended with status $?: $(tail -n 5 "$D/fio.out")"
}

# --- between two mounts ---

# After a kill: what the next mount frees or deletes may be told, nothing else.
fsck_after_kill() {
	local words status odd
	words=$(fsck.brickfs -n --json "$EP" 2>>"$T/log/fsck")
	status=$?
	odd=$(jq -r '[.problems[].code] - ["leak", "orphan"] | unique | join(" ")' <<<"$words" 2>/dev/null) || odd="no answer"
	if [ -n "$odd" ] || { [ $status != 0 ] && [ $status != 4 ]; }; then
		fail "fsck.brickfs -n ended with status $status after a kill: $odd $(jq -c '.problems[:20], .error' <<<"$words"; tail -n 3 "$T/log/fsck")"
	fi
	note "fsck.brickfs -n: status $status, $(jq -r '.problems | group_by(.code) | map("\(length) \(.[0].code)") | join(", ") | if . == "" then "clean" else . end' <<<"$words")"
}

# What the bricks hold is read, all of it, before anything is written.
mount_again() {
	mount_fs "$options"
	fio_check
	start_work --fresh
}

# --- the faults ---

loss_epoch=()
loss_epoch_of() {
	ctl "$1" --json stat | jq -e -r .loss_epoch || fail "brickctl stat of $1"
}

# It has lost nothing, and says so.
serve_again() {
	brick_serve "$1"
	case " ${brickd_options[*]} " in
	*" --fault "*) return ;;
	esac
	[ "$(loss_epoch_of "$1")" = "${loss_epoch[${1#b}]}" ] || fail "brickd $1 has another loss epoch than before"
}

brick_back() {
	random 30
	sleep "$((R / 10)).$((R % 10))"
	serve_again "$1"
}

some_brick() {
	random "$BRICKS"
	B=b$((R + 1))
}

# The process is stopped for so many tenths of a second at most.
stop_for_a_while() {
	random "$2"
	note "... for $((R / 10)).$((R % 10)) s"
	kill -STOP "$1" || fail "no process $1 that could be stopped"
	sleep "$((R / 10)).$((R % 10))"
	kill -CONT "$1"
}

# It may be that it is just between two connections.
cut_one() {
	local said which
	random 1000
	which=$R
	random 3
	[ "$R" != 0 ] || which=all
	said=$("$program" cut "$1" "$which" 2>&1)
	note "... $said"
}

# kill_the_mount [BRICK [STOPPED]]: and that brick; the stopped one goes on.
kill_the_mount() {
	: >"$dead"
	kill9_mount
	[ -z "${1-}" ] || kill9_brick "$1"
	[ -z "${1-}" ] || brick_back "$1"
	[ -z "${2-}" ] || kill -CONT "${brick_pid[$2]}"
	after_the_mount
}

after_the_mount() {
	work_is_dead
	fsck_after_kill
	# Once more while it mounts, now and then.
	random 3
	if [ "$R" = 0 ]; then
		random 40
		note "... and once more while it mounts, after $(printf '0.%02d' "$R") s"
		mkdir -p "$T/m"
		brickfs "$EP" "$T/m" -f -o "$options" >>"$T/log/brickfs-m" 2>&1 &
		mount_pid[m]=$!
		sleep "$(printf '0.%02d' "$R")"
		kill9_mount
		fsck_after_kill
	fi
	rm -f "$dead"
	mount_again
}

fault() {
	local id
	case $1 in
	brick)
		some_brick
		note "kill -9 brickd $B"
		kill9_brick "$B"
		brick_back "$B"
		;;
	brick2)
		some_brick
		note "kill -9 brickd $B, and again while the mount reconnects"
		kill9_brick "$B"
		brick_back "$B"
		random 10
		sleep "0.$R"
		kill9_brick "$B"
		brick_back "$B"
		;;
	bricks)
		some_brick
		note "kill -9 all brickds, $B is the last one to come back"
		for ((i = 1; i <= BRICKS; i++)); do
			kill9_brick b$i
		done
		for ((i = 1; i <= BRICKS; i++)); do
			[ b$i = "$B" ] || serve_again b$i
		done
		brick_back "$B"
		;;
	restart)
		some_brick
		note "brickd $B ends in order and starts again"
		stop_brick "$B"
		brick_back "$B"
		;;
	stop-brick)
		some_brick
		note "SIGSTOP of brickd $B"
		stop_for_a_while "${brick_pid[$B]}" 80
		;;
	stop-mount)
		note "SIGSTOP of brickfs"
		stop_for_a_while "${mount_pid[m]}" 150
		;;
	cut)
		random 2
		if [ "$R" = 0 ]; then
			note "connections of brickfs break"
			cut_one "${mount_pid[m]}"
		else
			some_brick
			note "connections of brickd $B break"
			cut_one "${brick_pid[$B]}"
		fi
		;;
	revoke)
		some_brick
		# A session over a Unix socket cannot be revoked while its process lives.
		[ "$TRANSPORT" != unix ] || return 1
		id=$(ctl "$B" --json stat --sessions | jq -r "[.session_list[] | select(.pid == ${mount_pid[m]}) | .session][0] // empty")
		note "session ${id:-(none)} of brickfs is revoked on $B"
		[ -z "$id" ] || ctl "$B" revoke "$id" >>"$D/timeline" 2>&1
		;;
	mount)
		note "kill -9 brickfs"
		kill_the_mount
		;;
	mount-brick)
		some_brick
		note "kill -9 brickfs and brickd $B"
		kill_the_mount "$B"
		;;
	brick-mount)
		some_brick
		note "kill -9 brickd $B, and brickfs while it reconnects"
		kill9_brick "$B"
		brick_back "$B"
		random 10
		sleep "0.$R"
		kill_the_mount
		;;
	power)
		note "kill -9 of everything"
		: >"$dead"
		random 2
		[ "$R" = 0 ] || kill9_mount
		for ((i = 1; i <= BRICKS; i++)); do
			kill -9 "${brick_pid[b$i]}"
		done
		[ "$R" = 1 ] || kill9_mount
		for ((i = 1; i <= BRICKS; i++)); do
			wait "${brick_pid[b$i]}" 2>/dev/null
			serve_again b$i
		done
		after_the_mount
		;;
	stopped-mount)
		# What the dead one had sent is read by the brick after that, when the next one is already asking.
		some_brick
		note "kill -9 brickfs while brickd $B is stopped"
		kill -STOP "${brick_pid[$B]}"
		random 20
		sleep "$((R / 10)).$((R % 10))"
		kill_the_mount "" "$B"
		;;
	remount)
		note "umount and mount"
		stop_work
		umount_fs
		fsck_clean >>"$D/timeline"
		mount_again
		;;
	worker)
		random "$workers"
		i=$((R + 1))
		note "kill -9 of worker $i"
		kill -9 "${worker_pid[$i]}"
		wait "${worker_pid[$i]}" 2>/dev/null
		start_worker $i
		;;
	*)
		fail "SOAK_FAULTS: there is no fault called \"$1\""
		;;
	esac
}

# --- and all of it ---

say "seed $seed, $seconds seconds, in $D${resumed:+, which is resumed}"
size=$(sized 1536 768)
start_bricks "$size" "${brickd_options[@]}"
for ((i = 1; i <= BRICKS; i++)); do
	loss_epoch[i]=$(loss_epoch_of b$i)
done
if [ -z "$resumed" ]; then
	make_fs
	echo "soak-$TRANSPORT-$BRICKS${MAPS:+-maps$MAPS}" >"$D/combination"
	note "begun: seed $seed"
	mount_fs "$options"
	must mkdir "$M/fio"
	start_work --fresh
else
	note "resumed: seed $seed"
	rm -f "$dead"
	fsck_after_kill
	mount_again
fi
total=0
deck=()
while [ $((SECONDS - began)) -lt "$seconds" ]; do
	random $(((pause_to - pause_from) * 10 + 1))
	wake=$((SECONDS + pause_from + R / 10))
	while [ $SECONDS -lt $wake ]; do
		look
		sleep 0.2
	done
	# Dealt like cards: each kind has its turn before one comes again.
	[ ${#deck[@]} -gt 0 ] || deck=("${kinds[@]}")
	random ${#deck[@]}
	now=${deck[R]}
	unset "deck[R]"
	deck=("${deck[@]}")
	fault "$now" || continue
	faults[$now]=$((${faults[$now]-0} + 1))
	total=$((total + 1))
	progress
done
now="the end"
stop_work
umount_fs
fsck_clean
mount_fs "$options"
fio_check
for ((i = 1; i <= workers; i++)); do
	must "$program" exact --top "$M/w$i" --journal "$D/journal$i" --dead "$dead" --counts "$D/counts" --fresh
done
umount_fs
fsck_clean
for ((i = 1; i <= BRICKS; i++)); do
	stop_brick b$i
done
note "ended well"
finished=1
words=
for i in "${!faults[@]}"; do
	words+="${words:+, }${faults[$i]} $i"
done
awk -v seed="$seed" -v seconds=$((SECONDS - began)) -v total=$total -v kinds="$words" -v fio=$fio_verified '
	{ steps += $1; files += $2; bytes += $3; fsyncs += $4; settles += $5 }
	END {
		printf "soak: seed %s, %d seconds, %d faults (%s)\n", seed, seconds, total, kinds
		printf "soak: %d steps, %d files made, %d MiB verified (and %d MiB by fio after mounts), %d fsyncs, %d times all that a crash left\n",
			steps, files, bytes / 1048576, fio, fsyncs, settles
	}' "$D/counts"
if [ -z "${SOAK_DIR-}" ]; then
	# The log is read by run.sh.
	rm -f "$T/log" && mv "$D/log" "$T/log"
	rm -rf "$D"
fi
exit 0
