# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: the network vanishes without a word, and comes back: a pause within timeo=, the lock by the rules of the lease, EIO beyond; nothing fsynced is lost
#
# The last brick serves in a network namespace of its own.  Between it and the client a third one forwards packets, or drops them.
if [ -z "${HALFOPEN_INSIDE-}" ]; then
	# The script's own namespace: the client's.
	unshare --net true 2>/dev/null || {
		echo "skipped: needs network namespaces (unshare -n)"
		exit 77
	}
	HALFOPEN_INSIDE=1 exec unshare --net bash ${TRACE:+-x} "$0"
fi
. "$SRC/tests/functional/lib.sh"

need python3 jq
command -v ip >/dev/null || skip "ip is missing (iproute2)"
. "$SRC/tests/functional/user.sh"

[ "$TRANSPORT" = tcp ] || skip "a network is needed: run me with tcp"
last=b$BRICKS
ADDRESS=192.0.2.66 LEASE=4

sleep infinity &
own=$!
unshare --net sleep infinity &
router=$!
unshare --net sleep infinity &
far=$!
in_router() {
	nsenter --net=/proc/$router/ns/net "$@"
}
apart() {
	[ "$(readlink /proc/$router/ns/net)" != "$(readlink /proc/$own/ns/net)" ] && [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/$own/ns/net)" ]
}
soon 60 apart || fail "no network namespaces"
network() {
	ip link set lo up &&
		ip link add near type veth peer name left netns $router &&
		ip addr add 192.0.2.2/27 dev near && ip link set near up && ip route add 192.0.2.64/27 via 192.0.2.1 &&
		in_router ip link add right type veth peer name far netns $far &&
		in_router ip addr add 192.0.2.1/27 dev left && in_router ip link set left up &&
		in_router ip addr add 192.0.2.65/27 dev right && in_router ip link set right up &&
		nsenter --net=/proc/$far/ns/net sh -c "ip link set lo up && ip addr add $ADDRESS/27 dev far && ip link set far up && ip route add default via 192.0.2.65"
}
network >"$T/words" 2>&1 || skip "no veth network: $(cat "$T/words")"
# A host that does not forward drops what is not for it, without a word.
there() {
	in_router sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward' || skip "cannot set ip_forward in a network namespace"
}
vanished() {
	in_router sh -c 'echo 0 >/proc/sys/net/ipv4/ip_forward' || fail "ip_forward"
}
there

# brickd of the last brick runs there; that is what lib.sh starts.
brickd() {
	case " $* " in
	*" $T/pool/$last "*) exec nsenter --net=/proc/$far/ns/net "$(type -P brickd)" "$@" ;;
	*) exec "$(type -P brickd)" "$@" ;;
	esac
}
EP=
for ((i = 1; i < BRICKS; i++)); do
	start_brick b$i 192M --lease $LEASE
	EP+=$(endpoint b$i),
done
start_brick $last 192M --lease $LEASE --listen "tcp://$ADDRESS:7450" --public
there_it_is=tcp://$ADDRESS:7450
EP+=$there_it_is
make_fs
mount_fs timeo=120
user_start "$M"
user_works 5

# The client's lock is given away when its lease has run out, and not before.
vanished
say "the network is gone"
taken() {
	local status heard begun=${EPOCHREALTIME/./}
	heard=$(brickctl -b "unix:$T/$last.sock" --json who $superblock | jq '[.. | .heard_ms? // empty] | min // 999999')
	brickctl -b "unix:$T/$last.sock" read $superblock --length 8 >"$T/bytes" 2>"$T/words"
	status=$?
	# What the session was silent for when it was asked, and all the time since: if that is not the lease, it was too early.
	if [ $status = 0 ] && [ $((heard + (${EPOCHREALTIME/./} - begun) / 1000)) -lt $((LEASE * 1000)) ]; then
		fail "the superblock's lock was given away though its session was heard of $heard ms before"
	fi
	return $status
}
until taken; do
	grep -qiE 'busy|in use|mapped' "$T/words" || fail "brickctl read: $(cat "$T/words")"
	[ $SECONDS -lt 300 ] || fail "the lock is not given to another one, though its lease ran out"
	sleep 0.1
done
say "its lease ran out, and another session had the superblock"
there
user_works 10

# brickd is another one when the network is back: the client hears of neither.
vanished
kill9_brick $last
brick_serve $last
there
user_works 10
user_stop
grep -q 'read-only' "$T/log/brickfs-m" && fail "the mount is read-only, though the brick came back in time"
umount_fs
mount_fs timeo=120
user_verify "$M"
umount_fs
fsck_clean

# Longer than timeo=.
mount_fs timeo=4
user_start "$M"
user_works 3
vanished
user_ends 'EIO|EROFS'
soon 60 grep -q 'read-only' "$T/log/brickfs-m" || fail "the log does not say that the mount is read-only"
grep -F "$there_it_is" "$T/log/brickfs-m" | grep -vq ': persistence \|mounted on' || fail "the log does not name $there_it_is"
umount "$M" 2>/dev/null || umount -l "$M" 2>/dev/null
soon 120 gone "${mount_pid[m]}" || fail "brickfs does not end while the network is away"
there
mount_fs timeo=120
user_verify "$M"
user_start "$M"
user_works 3

# The client is killed while nobody hears it: brickd notices, by its lease at the latest, and the next mount has it all.
vanished
kill -9 $user
wait $user 2>/dev/null
kill9_mount
there
mount_fs timeo=120
user_verify "$M"
umount_fs
fsck_clean

# A brick with nothing to say to a client that is gone notices by itself.
if [ -n "$FULL" ]; then
	mount_fs timeo=120
	vanished
	kill9_mount
	alone() {
		[ "$(brickctl -b "unix:$T/$last.sock" --json stat | jq .sessions.now)" -le 1 ]
	}
	soon 300 alone || fail "brickd keeps the session of a client that is gone: $(brickctl -b "unix:$T/$last.sock" stat)"
	there
fi
