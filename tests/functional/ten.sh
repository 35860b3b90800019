# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: ten sessions of four lanes each over one pool: exclusive is exclusive, readers see whole stamps in order, and nothing is left behind
. "$SRC/tests/functional/lib.sh"

need jq

program=$BUILD/tests/functional/ten
[ -x "$program" ] || fail "$program is not built"
seconds=${TEN_SECONDS:-${FULL:+60}}
# A machine without much memory: the pool is in it.
[ -n "${SMALL-}" ] && size=160M || size=256M

# What the brick holds when nobody is there but brickctl.
nothing_left() {
	local left
	left=$(ctl b1 --json stat | jq -c '[.. | objects | with_entries(select(.key == "maps" or .key == "regions" or .key == "memory_pinned") |
		select(.value | type == "number" or type == "string")) | to_entries[] | select(.value | tonumber != 0)]') || fail "brickctl stat"
	[ "$left" = '[]' ] || fail "$1: left behind: $left"
	[ -z "$(addresses b1)" ] || fail "$1: blocks are left: $(addresses b1)"
}

# run_ten WHAT [brickd option...]
run_ten() {
	local what=$1
	shift
	start_brick b1 "$size" "$@"
	"$program" "$(endpoint b1)" "${seconds:-4}" >"$T/words" 2>&1 || fail "$what: $(tail -n 12 "$T/words")"
	say "$what: $(tail -n 1 "$T/words")"
	nothing_left "$what"
	stop_brick b1
}

run_ten direct
run_ten "direct, what is not persisted is lost" --fault
if brickd --help | grep -q -e '--memory SIZE'; then
	# 32 blocks of memory for up to 16 shared ones and 40 of the lanes' own.
	run_ten cached --memory 64M
fi
