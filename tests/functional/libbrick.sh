# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: libbrick: calls, lanes, sharing, rejoining and random queued I/O against a real brickd; the manual's example works
. "$SRC/tests/functional/lib.sh"

real=$BUILD/tests/functional/libbrick-real
example=$BUILD/tests/functional/brick-example
for program in "$real" "$example"; do
	[ -x "$program" ] || fail "$program is not built"
done

start_brick b1 64M
"$real" "$(endpoint b1)" calls || fail "calls"
"$real" "$(endpoint b1)" model || fail "model"
words=$("$example" "$(endpoint b1)") || fail "the manual's example: $words"
[ "$words" = "complete is not durable" ] || fail "the manual's example says: $words"
refused 'rdma://' "$example" rdma://127.0.0.1:1
[ -z "$(addresses b1)" ] || fail "blocks are left: $(addresses b1)"

# brickd is killed under it, and comes back.
"$real" "$(endpoint b1)" die >"$T/words" 2>&1 &
pid=$!
soon 30 grep -q working "$T/words" || fail "die: $(cat "$T/words")"
sleep 0.2
kill9_brick b1
sleep 0.2
brick_serve b1
wait $pid || fail "die: $(cat "$T/words")"
say "$(tail -n 1 "$T/words")"
stop_brick b1
