# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: accesses that a handle does not allow are refused and change nothing; the lane comes back and the session goes on
. "$SRC/tests/functional/lib.sh"

[ "$TRANSPORT" != unix ] || skip "over a Unix socket blocks are the initiator's own memory: the kernel checks, by the page"
program=$BUILD/tests/rdma/refused
[ -x "$program" ] || fail "$program is not built"

start_brick b1 64M
"$program" "$(endpoint b1)" || fail "refused"
[ -z "$(addresses b1)" ] || fail "blocks are left: $(addresses b1)"
stop_brick b1
