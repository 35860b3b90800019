#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Shows: brickd over verbs keeps its promises to a client that speaks the bare protocol, and ends in order (raw-verbs.c).
# Runs where there is an RDMA device: raw-verbs.sh BUILDDIR [TEST ...], with $RDMA_ADDRESS (10.77.0.1) on it.
# POOL=/dev/daxN.N: not on tmpfs (flush).
# SECOND=1: makes a second Soft-RoCE device for the tests that want one (device, removed, dead).
set -u
build=$1; shift
address=${RDMA_ADDRESS:-10.77.0.1}
export RDMA_ADDRESS2=10.78.0.1
dir=$(mktemp -d /dev/shm/raw-verbs.XXXXXX) || exit 1
pool=${POOL:-$dir/pool}
brickd=$build/target/brickd brickctl=$build/target/brickctl

fail() {
	echo "raw-verbs.sh: $*" >&2
	sed 's/^/  brickd: /' "$dir/log" >&2
	exit 1
}
clean() {
	[[ -n ${pid-} ]] && kill -9 "$pid" 2>/dev/null
	[[ ${SECOND-} ]] && { timeout 5 rdma link delete second; timeout 5 ip link delete second; } 2>/dev/null
	rm -rf "$dir"
}
trap clean EXIT

"$brickd" --pool "$pool" --create 64M >"$dir/log" 2>&1 || fail "cannot make a pool"
second=()
if [[ ${SECOND-} ]]; then
	{ ip link add second type dummy && ip addr add $RDMA_ADDRESS2/24 dev second && ip link set second up &&
		rdma link add second type rxe netdev second; } || fail "no second device"
	export RDMA_DOWN2='ip link set second down' RDMA_REMOVE2='rdma link delete second &'
	second=(--listen "rdma://$RDMA_ADDRESS2:0")
fi
"$brickd" --pool "$pool" --listen "rdma://$address:0" "${second[@]}" --public --listen "unix:$dir/sock" \
	--max-peer-connections 12 --log-level info >>"$dir/log" 2>&1 &
pid=$!
for ((i = 0; i < 600; i++)); do
	grep -q 'ready:' "$dir/log" && break
	kill -0 "$pid" 2>/dev/null || fail "brickd has ended"
	sleep 0.1
done
port=$(sed -n "s|.*ready:.* rdma://$address:\([0-9]*\).*|\1|p" "$dir/log")
RDMA_PORT2=$(sed -n "s|.*ready:.* rdma://$RDMA_ADDRESS2:\([0-9]*\).*|\1|p" "$dir/log")
export RDMA_PORT2
[[ $port ]] || fail "no port in the ready line"
descriptors() {
	local all=(/proc/$pid/fd/*)
	echo ${#all[@]}
}
before=$(descriptors)
"$build/tests/rdma/raw-verbs" "$address" "$port" "$@" || fail "the client failed"
stat=$("$brickctl" -b "unix:$dir/sock" stat --json) || fail "brickctl stat"
echo "$stat" | tr ',' '\n' | grep -E '"(sessions|lanes|maps|regions)":' | tr -d ' \n'; echo
if [[ ! ${SECOND-} ]]; then
	# connections of the past have left no descriptor (channels, queues)
	for ((i = 0; i < 50; i++)); do
		(($(descriptors) == before)) && break
		sleep 0.1
	done
	(($(descriptors) == before)) || fail "brickd had $before descriptors, and has $(descriptors)"
fi
kill "$pid"; wait "$pid" || fail "brickd ended with $?"
pid=
[[ ${VERBOSE-} ]] && sed 's/^/  brickd: /' "$dir/log"
grep -iE 'BUG|assert|sanitizer|leak' "$dir/log" && fail "brickd complains"
exit 0
