# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: foreign or damaged superblocks, wrong ports, missing bricks: a clear message each, and nothing is changed
. "$SRC/tests/functional/lib.sh"

need python3 jq

start_bricks "$(sized 384 192)"
mkdir -p "$T/m"
digest() {
	# Every byte of every block, as the bricks tell it, each in one session.
	local i addr
	rm -rf "$T/blocks" && mkdir "$T/blocks" || fail "mkdir"
	for ((i = 1; i <= BRICKS; i++)); do
		for addr in $(addresses b$i); do
			echo "read $addr --file $T/blocks/b$i-$addr"
		done | ctl b$i - || fail "brickctl read of all blocks of b$i"
	done
	(cd "$T/blocks" && find . -type f | LC_ALL=C sort | xargs -r sha256sum)
}
unchanged() {
	digest | diff "$1" - || fail "$2 changed something"
}

# Nothing there yet.
refused 'no filesystem|no superblock|not a brickfs|mkfs|empty' brickfs "$EP" "$T/m" -f
refused 'no filesystem|no superblock|not a brickfs|mkfs|empty' fsck.brickfs -n "$EP"
refused 'connect|refused|reach' mkfs.brickfs tcp://127.0.0.1:1
refused 'no such file|connect|exist' mkfs.brickfs "unix:$T/nobody.sock"
refused 'endpoint' mkfs.brickfs nonsense://x
refused 'endpoint|port' mkfs.brickfs tcp://127.0.0.1
refused 'rdma|not supported|not there' mkfs.brickfs rdma://127.0.0.1:7777
[ "$(used_blocks)" = 0 ] || fail "a refusal allocated blocks"

# IDs that are not brickfs'.
ctl b1 alloc 0x7abcde0000000000 >/dev/null || fail "brickctl alloc"
digest >"$T/foreign"
refused 'foreign|not empty|-f|already|other' mkfs.brickfs "$EP"
unchanged "$T/foreign" "mkfs over foreign blocks"
ctl b1 free 0x7abcde0000000000 >/dev/null || fail "brickctl free"

make_fs -L precious
mount_fs
echo data >"$M/file"
head -c 3000000 /dev/urandom >"$M/big"
sync "$M/big"
umount_fs
digest >"$T/good"
grep -qi "b1-$superblock" "$T/good" || fail "there is no superblock at $superblock: $(addresses b1)"

refused 'already|filesystem|precious|-f' mkfs.brickfs "$EP"
unchanged "$T/good" "mkfs over a filesystem"

# A wrong port, and a brick that is not there.
wrong=tcp://127.0.0.1:1
refused 'connect|refused|reach' mount -t fuse.brickfs "$wrong" "$T/m"
refused '127.0.0.1:1' brickfs "$wrong" "$T/m" -f
if [ "$BRICKS" -gt 1 ]; then
	uuid=$(ctl b2 --json stat | jq -r '[.. | .uuid? // empty] | first')
	stop_brick b2
	refused "$uuid|b2.sock|${brick_port[b2]}" brickfs "$EP" "$T/m" -f
	refused "$uuid|b2.sock|${brick_port[b2]}" brickfs "$(endpoint b1)" "$T/m" -f
	refused "$uuid|b2.sock|${brick_port[b2]}" fsck.brickfs -n "$(endpoint b1)"
	brick_serve b2
	unchanged "$T/good" "a mount with a missing brick"
	# One endpoint is enough while all are there.
	mount_fs -e "$(endpoint b3)"
	[ "$(cat "$M/file")" = data ] || fail "the filesystem, mounted by one endpoint"
	umount_fs
	# A brick that moved: refused by what the superblock remembers, found where it is named, and then remembered there.
	# Endpoints that nobody serves any more do not matter, as long as all bricks are found.
	moved=$(another b2)
	old=$(endpoint b2)
	stop_brick b2
	brickd --pool "$(pool_of b2)" --listen "$moved" >>"$T/log/brickd-b2" 2>&1 &
	brick_pid[b2]=$!
	soon 60 brickctl -b "$moved" stat || fail "the brick that moved does not serve"
	refused "$uuid.*$old.*elsewhere" brickfs "$EP" "$T/m" -f
	refused "$uuid.*$old.*elsewhere" brickfs "$(endpoint b1)" "$T/m" -f
	refused "$uuid.*$old.*elsewhere" fsck.brickfs -n "$(endpoint b3)"
	mount_fs -e "$EP,$moved"
	[ "$(cat "$M/file")" = data ] || fail "the filesystem, with a brick that moved"
	umount_fs
	grep -q "$old does not answer" "$T/log/brickfs-m" || fail "nothing is said of the endpoint that nobody serves"
	mount_fs -e "$EP"
	[ "$(cat "$M/file")" = data ] || fail "the filesystem, by its old endpoints and the superblock's memory of the new one"
	umount_fs
	must fsck.brickfs -n "$EP"
	# And back again.
	stop_brick b2
	brick_serve b2
	mount_fs -e "$EP"
	umount_fs
	digest >"$T/good"
fi
mountpoint -q "$T/m" && fail "something is mounted"

# One bit of one copy of the superblock: the other copy stands in, or, where both are hit, everything is refused.
flip() {
	ctl_read b1 "$superblock" "$1" 1 >"$T/byte" || fail "brickctl read"
	python3 -c 'import sys; b = open(sys.argv[1], "rb").read(); open(sys.argv[1], "wb").write(bytes([b[0] ^ 0x10]))' "$T/byte"
	ctl_write b1 "$superblock" "$1" <"$T/byte" >/dev/null || fail "brickctl write"
}
for offset in 0 20 100; do
	flip $offset
	flip $((4096 + offset))
	digest >"$T/damaged"
	refused 'superblock|damage|checksum|not a brickfs|no filesystem' brickfs "$EP" "$T/m" -f
	unchanged "$T/damaged" "a mount with a damaged superblock"
	refused 'superblock|damage|checksum|not a brickfs|no filesystem' fsck.brickfs -n "$EP"
	fsck.brickfs -n "$EP" >"$T/words" 2>&1
	# The other bricks' superblocks know this one, and where there are none, the log: fsck -y could write it anew.
	grep -q '1 problem left: fsck.brickfs -y repairs' "$T/words" || fail "fsck does not say what repairs it: $(cat "$T/words")"
	grep ' 0 problems\|-o ro' "$T/words" && fail "fsck counts wrong, or advises a mount that is refused"
	unchanged "$T/damaged" "fsck -n with a damaged superblock"
	flip $offset
	flip $((4096 + offset))
	unchanged "$T/good" "the test itself"
done

# Another filesystem's brick in the place of one of ours.
if [ "$BRICKS" -gt 1 ]; then
	start_brick alien 128M
	must mkfs.brickfs "$(endpoint alien)"
	refused 'belongs? to (another )?filesystem' brickfs "$(endpoint b1),$(endpoint alien)" "$T/m" -f
	unchanged "$T/good" "a mount with a foreign brick"
fi
mount_fs
[ "$(cat "$M/file")" = data ] || fail "the filesystem after all this"
umount_fs
fsck_clean
