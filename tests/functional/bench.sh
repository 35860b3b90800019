# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: the transport benchmark runs over this transport, beside its baseline, and every row has its figures (not which ones)
. "$SRC/tests/functional/lib.sh"

need jq

bench=$BUILD/tests/bench/transport
[ -x "$bench" ] || fail "$bench is not built"
sizes=8,65536
[ "$TRANSPORT" != rdma ] || need ib_read_lat ib_write_lat ib_read_bw ib_write_bw
start_brick b1 64M
"$bench" -e "$(endpoint b1)" -d "$T" -H "${RDMA_ADDRESS-10.77.0.1}" -r 2 -n 10 -T 0.01 -s $sizes -q 1,4 -j >"$T/rows" 2>"$T/words" || fail "transport: $(tail -n 5 "$T/words")"
count() {
	jq "[.[] | select($1)] | length" "$T/rows"
}
[ "$(count '.what == "latency" and .p50_us > 0')" = 6 ] || fail "latency: $(cat "$T/rows")"
[ "$(count '.what == "throughput" and .ops_s > 0')" = 8 ] || fail "throughput: $(cat "$T/rows")"
[ "$(count '.what == "call" and .p50_us >= 0')" = 20 ] || fail "calls: $(cat "$T/rows")"
[ "$(count '.what != "call" and .operation != "write+persist" and .ratio > 0')" -ge 8 ] || fail "ratios: $(cat "$T/rows")"
[ -z "$(addresses b1)" ] || fail "blocks are left: $(addresses b1)"
stop_brick b1
mkdir "$T/own"
# The same with a brickd of its own, as a table.
[ "$TRANSPORT" = rdma ] || {
	rows=$("$bench" -t "$TRANSPORT" -b "$BUILD/target/brickd" -d "$T/own" -r 1 -n 5 -s 4096 -w latency 2>"$T/words") || fail "transport -t: $(cat "$T/words")"
	[ "$(wc -l <<<"$rows")" = 4 ] || fail "transport -t: $rows"
}
