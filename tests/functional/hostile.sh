# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: hostile clients of every kind at once: an honest one sees no error, newcomers are let in, the brick keeps to its memory, and counts what it refused
. "$SRC/tests/functional/lib.sh"

need jq prlimit

program=$BUILD/tests/functional/hostile
[ -x "$program" ] || fail "$program is not built"
[ -x "$BUILD/tests/functional/.libs/hostile" ] && program=$BUILD/tests/functional/.libs/hostile # before libtool's wrapper
start_brick b1 128M --hello-timeout 3 --max-maps 8 --max-requests 32
chmod 666 "$T/b1.sock" # the hostile ones are users of their own
pid=${brick_pid[b1]}
# Sanitizers keep memory that was freed, to find who uses it.
bound=$(grep -qE 'lib[at]san' "/proc/$pid/maps" && echo 3072 || echo 384)

fds() {
	find "/proc/$pid/fd" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l
}

only_brickctl() {
	[ "$(ctl b1 --json stat | jq -c '[.sessions, .lanes, .maps]')" = '[1,1,0]' ]
}

soon 60 only_brickctl || fail "somebody is there already: $(ctl b1 stat)"
idle=$(fds)
"$program" "$(endpoint b1)" honest >"$T/log/honest" 2>&1 &
honest=$!
works() {
	! alive $honest || grep -q working "$T/log/honest"
}
soon 120 works || fail "the honest client does not begin"

# One alone, which pushes only itself out; then all of them.
timeout -k 5 240 "$program" "$(endpoint b1)" attack crowd >"$T/log/attack" 2>&1 || fail "$(cat "$T/log/attack")"
grep -q 'dropped.*--max-peer-connections' "$T/log/brickd-b1" || fail "the log does not say what to raise"
timeout -k 5 240 "$program" "$(endpoint b1)" attack >"$T/log/attack" 2>&1 || fail "an attack met with what it should not: $(grep FAILED "$T/log/attack")"
alive "$pid" || fail "brickd is gone"
alive $honest || fail "the honest client has ended: $(cat "$T/log/honest")"
kill -TERM $honest
wait $honest || fail "the honest client saw an error: $(cat "$T/log/honest")"
say "the honest client: $(tail -n 1 "$T/log/honest")"

# What is left of it: nothing.
soon 120 only_brickctl || fail "sessions are left: $(ctl b1 stat)"
as_before() {
	[ "$(fds)" -le "$idle" ]
}
soon 120 as_before || fail "$(fds) descriptors are open, and $idle were before: $(ls -l "/proc/$pid/fd")"
[ -z "$(addresses b1)" ] || fail "blocks are left: $(addresses b1)"
most=$(awk '/^VmHWM:/ { print int($2 / 1024) }' "/proc/$pid/status")
[ "$most" -le "$bound" ] || fail "brickd had $most MiB of memory, more than $bound"
threads=$(awk '/^Threads:/ { print $2 }' "/proc/$pid/status")
say "brickd had at most $most MiB, has $threads threads and $idle descriptors"

# Each reason that was given, counted, and each limit was kept.
reasons=$(ctl b1 --json stat --limits | jq -r '.refused[] | select(.count > 0) | "\(.count) \(.reason)"')
say "$reasons"
for reason in 'too many without hello from a peer' 'no hello in time' 'no such session' 'too many sessions of a peer' 'too many lanes' \
	'maps beyond the grant' 'requests that had to wait' malformed 'unknown request'; do
	grep -qE "^[0-9]+ $reason\$" <<<"$reasons" || fail "not counted: $reason"
done
# The log has a few lines of it, not one for each.
lines=$(grep -c warning: "$T/log/brickd-b1")
[ "$lines" -le 60 ] || fail "$lines warnings in the log"
stop_brick b1

# Fewer descriptors than the limits allow connections: a crowd takes its part of them, and newcomers come in all the same.
brickd() {
	ulimit -n 120 && exec "$(type -P brickd)" "$@"
}
brick_serve b1
[ "$TRANSPORT" = tcp ] || chmod 666 "$T/b1.sock"
unset -f brickd
grep -q 'raise LimitNOFILE' "$T/log/brickd-b1" || fail "the log does not say that descriptors are few"
"$program" "$(endpoint b1)" honest >"$T/log/honest" 2>&1 &
honest=$!
soon 120 works || fail "the honest client does not begin with few descriptors"
timeout -k 5 240 "$program" "$(endpoint b1)" attack crowd >"$T/log/attack" 2>&1 || fail "$(cat "$T/log/attack")"
# and none at all: somebody has to give one back
must prlimit --pid "${brick_pid[b1]}" --nofile=$((idle + 8)):120
timeout -k 5 240 "$program" "$(endpoint b1)" attack crowd >"$T/log/attack" 2>&1 || fail "$(cat "$T/log/attack")"
kill -TERM $honest
wait $honest || fail "the honest client saw an error with few descriptors: $(cat "$T/log/honest")"
ctl b1 stat --limits | grep -qE '^the host has no more +[1-9]' || fail "not counted: $(ctl b1 stat --limits)"
say "with few descriptors: $(tail -n 1 "$T/log/honest")"
stop_brick b1
