# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: 64 MiB are enough to be used and mounted a hundred times, each time after kill -9
. "$SRC/tests/functional/lib.sh"

start_bricks 64
make_fs
times=100
for ((i = 1; i <= times; i++)); do
	mount_fs
	if [ $i -gt 1 ]; then
		[ "$(cat "$M/count")" = $((i - 1)) ] || fail "mount $i: the count says $(cat "$M/count")"
	fi
	echo $i >"$M/count" || fail "mount $i: write"
	mkdir -p "$M/d$((i % 10))"
	head -c $((i * 1000)) /dev/zero | tr '\0' x >"$M/d$((i % 10))/f$((i % 30))" || fail "mount $i: write"
	[ $((i % 3)) = 0 ] && rm -f "$M/d$((i * 7 % 10))/f"*
	sync "$M/count" || fail "mount $i: fsync"
	# Something under way that nobody waits for.
	head -c 200000 /dev/zero >"$M/lost" 2>/dev/null
	kill9_mount
done
say "mounted $times times"
mount_fs
[ "$(cat "$M/count")" = $times ] || fail "the last count"
free=$(free_kib "$M")
umount_fs
fsck_clean
mount_fs
[ "$(free_kib "$M")" -ge $((free - 4096)) ] || fail "space leaks: $free KiB free, then $(free_kib "$M")"
head -c 20000000 /dev/zero >"$M/big" || fail "20 MB should still fit on 64 MiB"
sync "$M/big" || fail "fsync"
umount_fs
fsck_clean
