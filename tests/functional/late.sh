# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a brick that answers late: a pause and no error within timeo=, EIO and read-only beyond it, the log names it; every byte is right
. "$SRC/tests/functional/lib.sh"

need python3
. "$SRC/tests/functional/user.sh"

last=b$BRICKS
start_bricks "$(sized 768 384)"
make_fs

# Within the limit, which is generous here: a machine may be slow by itself.
mount_fs timeo=120
user_start "$M"
user_works 5
for pause in 0.2 2 0.5 1; do
	kill -STOP "${brick_pid[$last]}"
	sleep $pause
	kill -CONT "${brick_pid[$last]}"
	user_works 3
done
# All of them.
for ((i = 1; i <= BRICKS; i++)); do
	kill -STOP "${brick_pid[b$i]}"
done
sleep 1
for ((i = 1; i <= BRICKS; i++)); do
	kill -CONT "${brick_pid[b$i]}"
done
user_works 3
user_stop
grep -q 'read-only' "$T/log/brickfs-m" && fail "the mount is read-only after a pause"
umount_fs
mount_fs timeo=120
user_verify "$M"
umount_fs
fsck_clean

# Beyond it.
mount_fs timeo=4
user_start "$M"
user_works 3
kill -STOP "${brick_pid[$last]}"
user_ends 'EIO|EROFS'
soon 60 grep -q 'read-only' "$T/log/brickfs-m" || fail "the log does not say that the mount is read-only"
grep -F "$(endpoint $last)" "$T/log/brickfs-m" | grep -vq ': persistence \|mounted on' || fail "the log does not name $(endpoint $last)"
for ((i = 1; i < BRICKS; i++)); do
	grep -F "brick $(endpoint b$i)" "$T/log/brickfs-m" | grep -vq ': persistence \|mounted on' && fail "the log blames $(endpoint b$i)"
done
refused 'read-only|input/output' sh -c "echo x >'$M/late' && sync '$M/late'"
kill -CONT "${brick_pid[$last]}"
# It does not come back by itself: what was acknowledged before is there, and nothing is acknowledged now.
refused 'read-only|input/output' sh -c "echo x >'$M/later' && sync '$M/later'"
umount "$M" 2>/dev/null || umount -l "$M" 2>/dev/null
soon 120 gone "${mount_pid[m]}" || fail "brickfs does not end"
wait "${mount_pid[m]}" && fail "brickfs ends as if nothing had been"
mount_fs timeo=120
user_verify "$M"
user_start "$M"
user_works 3
user_stop
umount_fs
fsck_clean
