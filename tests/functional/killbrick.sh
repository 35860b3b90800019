# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: brickd killed and started again under a mount: I/O goes on; away longer than timeo=: EIO, never a hang
. "$SRC/tests/functional/lib.sh"

need python3

start_bricks "$(sized 768 256)"
make_fs
mount_fs timeo=60
cat >"$T/writer.py" <<'END'
import os, sys, random
path, seconds = sys.argv[1], float(sys.argv[2])
import time
end = time.time() + seconds
rnd = random.Random(7)
n = 0
with open(path, "wb", buffering=0) as f:
    while time.time() < end or n < 30:
        f.write(rnd.randbytes(50000))
        time.sleep(0.001)
        n += 1
        if n % 5 == 0:
            os.fsync(f.fileno())
            with open(f"{path}.{n}", "wb") as g:
                g.write(rnd.randbytes(3000))
                g.flush()
                os.fsync(g.fileno())
    os.fsync(f.fileno())
rnd = random.Random(7)
with open(path, "rb") as f:
    for i in range(1, n + 1):
        if f.read(50000) != rnd.randbytes(50000):
            sys.exit(f"piece {i} differs")
        if i % 5 == 0 and open(f"{path}.{i}", "rb").read() != rnd.randbytes(3000):
            sys.exit(f"small file {i} differs")
print(f"{n} pieces written and read")
END
python3 "$T/writer.py" "$M/file" 6 &
writer=$!
last=b$BRICKS
for brick in b1 $last; do
	sleep 1
	kill9_brick "$brick"
	sleep 0.5
	brick_serve "$brick"
done
sleep 1
# An orderly restart is nothing else for a mount.
stop_brick b1
brick_serve b1
soon 120 gone $writer || fail "the writer hangs after brickd came back"
wait $writer || fail "the writer failed over a restart of brickd"
umount_fs
fsck_clean

# Gone for good: within the time limit every call returns, with an error.
mount_fs timeo=3
echo before >"$M/before" && sync -f "$M/before"
python3 - "$M/open" >"$T/writer" <<'END' &
import errno, os, sys
f = open(sys.argv[1], "wb", buffering=0)
f.write(b"x" * 100000)
os.fsync(f.fileno())
print("ready", flush=True)
try:
    while True:
        f.seek(0)
        f.write(b"y" * 100000)
        os.fsync(f.fileno())
except OSError as e:
    print("the writer got", errno.errorcode[e.errno], flush=True)
    sys.exit(0 if e.errno in (errno.EIO, errno.EROFS) else 1)
END
writer=$!
soon 60 grep -q ready "$T/writer" || fail "the writer makes no progress"
sleep 1
for ((i = 1; i <= BRICKS; i++)); do
	kill9_brick b$i
done
soon 60 gone $writer || fail "a writer hangs though the brick is away for longer than timeo="
wait $writer || fail "the writer did not get EIO or EROFS"
refused 'input/output error|read-only' sh -c "echo after >'$M/after' && sync '$M/after'"
umount "$M" || umount -l "$M"
soon 60 gone "${mount_pid[m]}" || fail "brickfs does not end while its brick is away"
for ((i = 1; i <= BRICKS; i++)); do
	brick_serve b$i
done
mount_fs
[ "$(cat "$M/before")" = before ] || fail "what was synced before the brick went away is not there"
umount_fs
fsck_clean
