# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: the second mount of one filesystem, mkfs and fsck under a mount are refused and say who holds it
. "$SRC/tests/functional/lib.sh"

start_bricks "$(sized 256 128)"
start_brick empty 64M
make_fs
mount_fs
echo mine >"$M/mine"
sync "$M/mine"
mkdir -p "$T/second"
# Over the other transport too: it is one brick.
other=$(another b1)
for ep in "$EP" "$other"; do
	refused 'held|holds|mounted|in use|busy' brickfs "$ep" "$T/second" -f
	words=$(brickfs "$ep" "$T/second" -f 2>&1)
	grep -q "${mount_pid[m]}\|brickfs@\|brickfs.*$(hostname)" <<<"$words" || fail "it does not say who holds it: $words"
	mountpoint -q "$T/second" && fail "something is mounted at $T/second"
	refused 'held|holds|mounted|in use|busy' mkfs.brickfs "$ep"
	refused '^mkfs.brickfs: in use by' mkfs.brickfs -f "$ep"
	refused '^mkfs.brickfs: in use by' mkfs.brickfs -f "$(endpoint empty),$ep"
	ctl empty list | grep -q '^0x' && fail "a refused mkfs left a block on the other brick: $(ctl empty list)"
	refused 'held|holds|mounted|in use|busy' fsck.brickfs -n "$ep"
done
refused 'held|holds|mounted|in use|busy' mount -t fuse.brickfs "$EP" "$T/second"
echo still >"$M/still" && sync "$M/still" || fail "the first mount was disturbed"
[ "$(cat "$M/mine")" = mine ] || fail "the first mount was disturbed"

# Freed the moment it is unmounted: the next one, started meanwhile, waits and gets it.
umount "$M" &
umount_pid=$!
mount_fs -n second
wait $umount_pid || fail "umount of the first one"
[ "$(cat "$M/still")" = still ] || fail "the second mount does not see the first one's file"
soon 60 gone "${mount_pid[m]}" || fail "the first brickfs does not end"
umount_fs second
fsck_clean
