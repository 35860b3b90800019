# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a mount whose client is stopped and whose place was taken cannot change a byte when it goes on
. "$SRC/tests/functional/lib.sh"

need python3

start_bricks "$(sized 512 256)"
make_fs
mount_fs
echo one >"$M/one"
sync "$M/one"
head -c 20000000 /dev/zero >"$M/old" && sync "$M/old"

# A writer that never rests, so that much is under way at any moment.
python3 - "$M" <<'END' &
import os, sys
n = 0
try:
    while True:
        with open(f"{sys.argv[1]}/old", "r+b", buffering=0) as f:
            for i in range(20):
                f.seek(i * 1000000)
                f.write(b"OLD CLIENT" * 100000)
            os.fsync(f.fileno())
        with open(f"{sys.argv[1]}/by-old-{n % 50}", "wb") as f:
            f.write(b"OLD CLIENT" * 3000)
        n += 1
except OSError as e:
    print("the old client's writer ends:", e)
END
writer=$!
sleep 1
alive $writer || fail "the writer ended by itself"
kill -STOP "${mount_pid[m]}"
say "the first client is stopped; the second one mounts"

# Its lease has to run out first: the mount waits for that, or asks to be tried again.
mount_other() {
	mkdir -p "$T/other"
	mount8 -n other >>"$T/log/mount-other" 2>&1
}
soon 180 mount_other || fail "the second client cannot mount: $(tail -n 3 "$T/log/mount-other")"
O=$T/other
[ "$(cat "$O/one")" = one ] || fail "a synced file is gone"
rm -f "$O/old" "$O"/by-old-* || fail "rm by the second client"
for i in 1 2 3 4 5 6 7 8; do
	head -c 5000000 /dev/urandom >"$O/new$i"
	head -c 5000 /dev/urandom >"$O/small$i"
done
sync -f "$O"
for i in 1 2 3 4 5 6 7 8; do
	sync "$O/new$i" "$O/small$i"
done
sums=$(cd "$O" && sha256sum one new* small*)

kill -CONT "${mount_pid[m]}"
say "the first client goes on"
soon 90 gone $writer || fail "the old client's writer still writes, or hangs"
for try in 1 2 3; do
	refused 'input/output|read-only|stale|not connected' sh -c "echo more >'$T/m/more' && sync '$T/m/more'"
	[ "$(cd "$O" && sha256sum one new* small*)" = "$sums" ] || fail "the old client changed a byte"
done
umount "$T/m" 2>/dev/null || umount -l "$T/m"
soon 60 gone "${mount_pid[m]}" || fail "the old client does not end"
umount8 other
fsck_clean

# With caches dropped: what the bricks hold, not what the second client remembered.
mount_fs
[ "$(cd "$M" && sha256sum one new* small*)" = "$sums" ] || fail "the old client changed a byte on the bricks"
[ -z "$(find "$M" -name 'by-old-*')" ] || fail "the old client made files after it was fenced"
umount_fs
fsck_clean
