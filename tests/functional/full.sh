# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a full volume says ENOSPC, keeps what it has, and rm gives the space back; 64 MiB are enough
. "$SRC/tests/functional/lib.sh"

need python3

start_bricks 64
make_fs
mount_fs
before=$(free_kib "$M")
say "free: $before KiB"
echo precious >"$M/precious" && sync "$M/precious" || fail "cannot write to an empty filesystem"

fill() {
	python3 - "$M/$1" "$2" <<'END'
import errno, os, sys
top, size = sys.argv[1], int(sys.argv[2])
os.makedirs(top, exist_ok=True)
n = total = 0
try:
    while True:
        fd = os.open(f"{top}/{n}", os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            data = os.urandom(size)
            while data:
                data = data[os.write(fd, data):]
            os.fsync(fd)
        finally:
            os.close(fd)
        n += 1
        total += size
        if n > 200000:
            sys.exit("never full")
except OSError as e:
    if e.errno != errno.ENOSPC:
        sys.exit(f"not ENOSPC but {e}")
print(f"full after {n} files of {size} bytes, {total >> 20} MiB")
END
}
last=$(sized 4000 30000)
for size in 3000000 100000 "$last"; do
	fill "big$size" "$size" || fail "filling with files of $size bytes"
	[ "$(cat "$M/precious")" = precious ] || fail "a full volume lost a file"
	[ "$(free_kib "$M")" -le 8192 ] || fail "ENOSPC, but statfs says $(free_kib "$M") KiB are free"
	if [ "$size" = "$last" ]; then
		# Full to the brim, unmounted, mounted: rm still works.
		umount_fs
		fsck_clean
		mount_fs
	fi
	rm -r "$M/big$size" || fail "rm on a full volume"
	back() { [ "$(free_kib "$M")" -ge $((before - 6144)) ]; }
	soon 30 back || fail "$before KiB were free before, $(free_kib "$M") after filling and rm"
done

# A hole is no space, and what fallocate promised is kept.
python3 - "$M" <<'END' || fail "fallocate and holes on a small volume"
import errno, os, sys
top = sys.argv[1]
with open(f"{top}/hole", "wb") as f:
    f.truncate(1 << 40)
fd = os.open(f"{top}/reserved", os.O_RDWR | os.O_CREAT)
os.posix_fallocate(fd, 0, 8 << 20)
try:
    big = os.open(f"{top}/toomuch", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(big, 0, 1 << 30)
    sys.exit("fallocate of 1 GiB on 64 MiB")
except OSError as e:
    assert e.errno == errno.ENOSPC, e
os.close(big)
os.unlink(f"{top}/toomuch")
filler = os.open(f"{top}/filler", os.O_WRONLY | os.O_CREAT)
try:
    while True:
        os.write(filler, bytes(1 << 20))
        os.fsync(filler)
except OSError as e:
    assert e.errno == errno.ENOSPC, e
for i in range(8):
    os.pwrite(fd, bytes([i + 1]) * (1 << 20), i << 20)
os.fsync(fd)
os.unlink(f"{top}/filler")
os.close(filler)
for i in range(8):
    assert os.pread(fd, 1 << 20, i << 20) == bytes([i + 1]) * (1 << 20)
END
rm "$M/hole" "$M/reserved" || fail "rm"
umount_fs
fsck_clean
mount_fs
back || fail "after everything was deleted and mounted again $(free_kib "$M") KiB of $before are free"
[ "$(cat "$M/precious")" = precious ] || fail "the precious file is gone"
umount_fs
