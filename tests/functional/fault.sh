# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a brick that loses what was not persisted: fsynced bytes are all there; fsync says EIO once and the mount is read-only
. "$SRC/tests/functional/lib.sh"

need python3

start_bricks "$(sized 768 384)" --fault
make_fs
mount_fs timeo=60
cat >"$T/faulty.py" <<'END'
import errno, hashlib, os, random, sys
top, listing, go = sys.argv[1:4]
rnd = random.Random(11)
out = open(listing, "w", buffering=1)
for i in range(60):
    data = rnd.randbytes(rnd.choice((50, 5000, 70000, 3000000)))
    with open(f"{top}/f{i}", "wb", buffering=0) as f:
        f.write(data)
        os.fsync(f.fileno())
    out.write(f"{hashlib.sha256(data).hexdigest()} {top}/f{i}\n")
print("fsynced", flush=True)
# From here on, bytes are placed and not persisted most of the time: the brick dies in the middle of it.
f = open(f"{top}/lost", "wb", buffering=0)
open(go, "w").close()
try:
    while True:
        f.seek(0)
        for i in range(8):
            fd = os.open(f"{top}/lost", os.O_WRONLY | os.O_DIRECT)
            import mmap
            page = mmap.mmap(-1, 1 << 20)
            page.write(rnd.randbytes(1 << 20))
            os.pwrite(fd, page, i << 20)
            os.close(fd)
        os.fsync(f.fileno())
except OSError as e:
    print("the writer got", errno.errorcode[e.errno], flush=True)
    sys.exit(0 if e.errno in (errno.EIO, errno.EROFS) else 1)
END
python3 "$T/faulty.py" "$M" "$T/fsynced" "$T/go" &
writer=$!
soon 120 test -e "$T/go" || fail "the writer makes no progress"
# A brick that dies in the short moment when all is persisted loses nothing, and the mount goes on: then once more.
for try in 1 2 3 4 5; do
	sleep 1
	for ((i = 1; i <= BRICKS; i++)); do
		kill9_brick b$i
	done
	for ((i = 1; i <= BRICKS; i++)); do
		brick_serve b$i
	done
	soon 20 gone $writer && break
done
gone $writer || fail "the writer hangs, or goes on, after the brick came back with losses"
wait $writer || fail "no EIO after the brick lost bytes that were placed"
refused 'read-only|input/output' sh -c "echo more >'$M/more'"
refused 'input/output|read-only' sh -c "exec 3<'$M/f0'; sync '$M/f0'"
umount_fs_any() {
	umount "$M" || umount -l "$M"
	soon 60 gone "${mount_pid[m]}" || fail "brickfs does not end"
}
umount_fs_any
mount_fs
must sha256sum -c --quiet "$T/fsynced"
echo again >"$M/again" && sync "$M/again" || fail "the next mount cannot write"
umount_fs
fsck_clean

# The control: with a fault-mode brick that dies while everything is persisted, the mount just goes on.
mount_fs timeo=60
echo kept >"$M/kept"
sync "$M/kept"
sleep 1
for ((i = 1; i <= BRICKS; i++)); do
	kill9_brick b$i
	brick_serve b$i
done
echo on >"$M/on" && sync "$M/on" || fail "nothing was lost, and yet the mount does not go on"
umount_fs
mount_fs
[ "$(cat "$M/kept" "$M/on")" = $'kept\non' ] || fail "persisted files are gone"
umount_fs
fsck_clean
