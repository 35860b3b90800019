# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: libbrick's and brickd's verbs, each against the other side as nobody would use it (verbs-client.c, raw-verbs.c)
. "$SRC/tests/functional/lib.sh"

[ "$TRANSPORT" = rdma ] || skip "of verbs only"
for program in verbs-client raw-verbs; do
	[ -x "$BUILD/tests/rdma/$program" ] || fail "tests/rdma/$program is not built"
done

start_brick b1 64M
for what in data queue control refused close; do
	say "verbs-client $what"
	"$BUILD/tests/rdma/verbs-client" "$(endpoint b1)" $what || fail "verbs-client $what"
done
stop_brick b1

# More sessions than a peer may have: refused by the connection manager, with the reason; over another transport it is another peer.
brick_options[b1]="--max-peer-sessions 2"
brick_serve b1
must ctl b1 alloc 0x7200000000000000 2
mkfifo "$T/hold" || fail mkfifo
exec 8<>"$T/hold" # never ends
holders=
for i in 0 2; do
	ctl b1 map "0x7200000000${i}00000" <&8 >/dev/null 2>"$T/log/holder$i" &
	holders+=" $!"
done
need jq
both() {
	brickctl -b "$(endpoint b1 unix)" --json stat | jq -e '.sessions == 3'
}
soon 60 both || fail "two sessions are not there: $(brickctl -b "$(endpoint b1 unix)" stat)"
refused 'as many sessions as it takes' brickctl -b "$(endpoint b1)" stat
brickctl -b "$(endpoint b1 unix)" stat --limits | grep -qE '^too many sessions of a peer +1$' ||
	fail "not counted: $(brickctl -b "$(endpoint b1 unix)" stat --limits)"
grep -q 'verbs .*refused: it has as many sessions as a peer may have (--max-peer-sessions)' "$T/log/brickd-b1" || fail "not in the log"
# shellcheck disable=SC2086
kill $holders
stop_brick b1
"$BUILD/tests/rdma/verbs-client" "$(endpoint b1)" nobody || fail "verbs-client nobody"
bash "$SRC/tests/rdma/raw-verbs.sh" "$BUILD" || fail "raw-verbs"
