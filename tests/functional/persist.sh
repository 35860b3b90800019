# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: brickd killed at random points under four lanes: every byte whose persist was acknowledged is there, and what was read after a map stays
#
# Without --fault, a brickd that is killed and started again has lost nothing at all, and says so by its loss epoch.
#
# PERSIST_POINTS: kill points in all (200; FULL: 6000), within PERSIST_SECONDS (24; FULL: 1500); shared out among the modes.
# PERSIST_SEED: the same run once more, as far as time lets it be. PERSIST_POOL: a pool made already (a device DAX) for the direct modes.
. "$SRC/tests/functional/lib.sh"

program=$BUILD/tests/functional/persist
[ -x "$program" ] || fail "$program is not built"
points=${PERSIST_POINTS:-${FULL:+6000}}
seconds=${PERSIST_SECONDS:-${FULL:+1500}}
if [ -n "${SMALL-}" ]; then
	few=6 many=20 teeth_of=write
	points=${points:-80} seconds=${seconds:-40}
else
	few=24 many=40 teeth_of="write read"
fi
case $TRANSPORT in
tcp) where=tcp://127.0.0.1:0 ;;
unix) where=unix:$T/persist.sock ;;
rdma) where=rdma://${RDMA_ADDRESS-10.77.0.1}:0 ;;
esac

# prove NAME SHARE BLOCKS [brickd option...]: SHARE percent of points and time.
prove() {
	local name=$1 share=$2 blocks=$3 pool=$T/pool/$1
	shift 3
	if [ -n "${PERSIST_POOL-}" ] && [[ $name != cached* ]]; then
		pool=$PERSIST_POOL
	else
		[ -e "$pool" ] || must brickd --pool "$pool" --create 128M
	fi
	[ "$TRANSPORT" != rdma ] || set -- --public "$@"
	# With --teeth it ends as soon as it is fooled.
	[ -z "$teeth" ] || local points=100000 seconds=120
	timeout -k 10 $((${seconds:-24} * share / 100 + 240)) "$program" --brickd "$BUILD/target/brickd" --pool "$pool" --listen "$where" \
		--log "$T/log/$name" --blocks "$blocks" --points $((${points:-200} * share / 100)) --seconds $((${seconds:-24} * share / 100)) \
		${PERSIST_SEED:+--seed "$PERSIST_SEED"} ${teeth:+--teeth "$teeth"} ${keeps:+--keeps} -- "$@" >"$T/words" 2>&1
}

show() {
	say "$1: $(tail -n 1 "$T/words")"
}

modes=(direct)
teeth="" keeps=""
prove direct-fault 40 "$few" --fault || fail "direct, with loss: $(tail -n 4 "$T/words")"
show "direct, what is not persisted is lost"
keeps=1 prove direct 15 "$few" || fail "direct: $(tail -n 4 "$T/words")"
show "direct"
if brickd --help | grep -q -e '--memory SIZE'; then
	# More blocks than fit into memory.
	prove cached-fault 30 "$many" --fault --memory 32M || fail "cached, with loss: $(tail -n 4 "$T/words")"
	show "cached, what is not persisted is lost"
	keeps=1 prove cached 15 "$many" --memory 32M || fail "cached: $(tail -n 4 "$T/words")"
	show "cached"
	modes+=(cached)
fi

# The test can fail: it finds out when it is made to believe what no brick has promised.
for mode in "${modes[@]}"; do
	options=(--fault)
	[ "$mode" = direct ] || options+=(--memory 32M)
	for teeth in $teeth_of; do
		if prove "$mode-teeth-$teeth" 100 "$few" "${options[@]}"; then
			fail "with --teeth $teeth it does not notice lost bytes: $(tail -n 1 "$T/words")"
		fi
		grep -q 'the brick holds what it must not' "$T/words" || fail "with --teeth $teeth: $(tail -n 4 "$T/words")"
		say "teeth ($mode, $teeth): $(grep -m 1 FAILED "$T/words")"
	done
done
