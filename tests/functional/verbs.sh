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
"$BUILD/tests/rdma/verbs-client" "$(endpoint b1)" nobody || fail "verbs-client nobody"
bash "$SRC/tests/rdma/raw-verbs.sh" "$BUILD" || fail "raw-verbs"
