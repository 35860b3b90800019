# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: brickd killed under load: errors for all that was under way, no hang; clients killed or stopped under load leave nothing
. "$SRC/tests/functional/lib.sh"

need jq

program=$BUILD/tests/rdma/verbs-client
[ -x "$program" ] || fail "$program is not built"
start_brick b1 64M --lease 4

pids=
load() {
	local i
	pids=
	for i in 1 2; do
		"$program" "$(endpoint b1)" die >"$T/log/client-$i" 2>&1 &
		pids+=" $!"
	done
	for i in 1 2; do
		soon 60 grep -q working "$T/log/client-$i" || fail "client $i does not work: $(cat "$T/log/client-$i")"
	done
	sleep 0.$((RANDOM % 900 + 100))
}

ended() {
	local pid n=0
	for pid in $pids; do
		n=$((n + 1))
		soon 120 gone "$pid" || fail "a client hangs though $1: $(cat "$T/log/client-$n")"
		wait "$pid" || fail "a client did not end in order when $1: $(cat "$T/log/client-$n")"
	done
	say "the clients, when $1: $(sed -n 2p "$T/log/client-1")"
}

for i in 1 2 3; do
	load
	kill9_brick b1
	ended "the brick was killed"
	brick_serve b1
done

# Nobody but brickctl is there, and nothing is mapped.
nothing_left() {
	[ "$(ctl b1 --json stat | jq -c '[.sessions, .lanes, .maps, .regions // 0]')" = '[1,1,0,0]' ]
}
load
for pid in $pids; do
	kill -9 "$pid"
done
soon 60 nothing_left || fail "clients that were killed leave something: $(ctl b1 stat)"

# Stopped for longer than its lease, which others ask for: its session is gone when it goes on.
load
victim=${pids##* }
kill -STOP "$victim"
soon 60 ctl b1 map 0x7100000000000000 --exclusive --preempt </dev/null || fail "a stopped client keeps its blocks: $(ctl b1 who 0x7100000000000000)"
kill -CONT "$victim"
ended "its block was taken"
soon 60 nothing_left || fail "something is left: $(ctl b1 stat)"
stop_brick b1
