# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: XFS_IOC_GOINGDOWN stops a mount under load: what each flag promises is there afterwards, and until then all is EIO
. "$SRC/tests/functional/lib.sh"

need python3

# going.py DIR FLAG: the request alone; ends with the errno.
cat >"$T/going.py" <<'END'
import fcntl, os, struct, sys
GOINGDOWN = 0x8004587d              # _IOR('X', 125, uint32_t)
if __name__ == "__main__":
    if len(sys.argv) > 3:
        os.setuid(int(sys.argv[3]))
    fd = os.open(sys.argv[1], os.O_RDONLY)
    try:
        fcntl.ioctl(fd, GOINGDOWN, struct.pack("I", int(sys.argv[2])))
    except OSError as e:
        sys.exit(f"errno {e.errno}: {e.strerror}")
END

# noise.py DIR SEED: writes, renames, truncates, punches and removes for ever; the error that ends it is to be EIO.
cat >"$T/noise.py" <<'END'
import os, random, sys
top, rnd = sys.argv[1], random.Random(int(sys.argv[2]))
os.makedirs(top, exist_ok=True)
open(f"{top}/ready", "w").close()
try:
    for i in range(10**9):
        name = f"{top}/f{i % 50}"
        with open(name, "wb", buffering=0) as f:
            f.write(rnd.randbytes(rnd.choice((10, 4096, 40000, 300000, 3000000))))
            if i % 7 == 0:
                os.fsync(f.fileno())
        if i % 3 == 0:
            os.rename(name, f"{top}/r{i % 20}")
        elif i % 3 == 1:
            os.truncate(name, rnd.randrange(5000))
except OSError as e:
    print(f"at {i}: {e}")
    sys.exit(0 if e.errno == 5 else 1)
END

# acts.py DIR FLAG LIST: files in every state of being written, the request, and what follows.  LIST gets those that must be there.
cat >"$T/acts.py" <<'END'
import errno, fcntl, hashlib, mmap, os, random, struct, sys
from going import GOINGDOWN
top, flag, listing = sys.argv[1], int(sys.argv[2]), open(sys.argv[3], "w")
rnd = random.Random(flag)
sizes = (1, 300, 4096, 50000, 2500000)
held = []

def write(name, sync, close):
    data = rnd.randbytes(rnd.choice(sizes))
    fd = os.open(f"{top}/{name}", os.O_RDWR | os.O_CREAT)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]
    if sync:
        os.fsync(fd)
    if close:
        os.close(fd)
    else:
        held.append(fd)
    # Not synced is durable with 0; with 1 it must have been handed over, as close(2) does.
    if sync or flag == 0 or (flag == 1 and close):
        listing.write(f"{hashlib.sha256(data).hexdigest()}  {top}/{name}\n")

def refused(what, call, *more, expected=errno.EIO):
    try:
        call(*more)
    except OSError as e:
        if e.errno == expected:
            return
        sys.exit(f"{what}: {e}, and not {errno.errorcode[expected]}")
    sys.exit(f"{what} succeeded")

os.makedirs(f"{top}/sub")
for n in range(40):
    write(f"synced{n}", True, n % 2)
    write(f"closed{n}", False, True)
    write(f"open{n}", False, False)
big = os.open(f"{top}/big", os.O_RDWR | os.O_CREAT)
for n in range(16):
    os.pwrite(big, bytes([n + 1]) * 1000000, n * 1000000)
if flag == 0:
    listing.write(f"{hashlib.sha256(b''.join(bytes([n + 1]) * 1000000 for n in range(16))).hexdigest()}  {top}/big\n")
listing.close()

root = os.open(os.path.dirname(top), os.O_RDONLY)
sub = os.open(f"{top}/sub", os.O_RDONLY)
request = lambda fd, how: fcntl.ioctl(fd, GOINGDOWN, struct.pack("I", how))
refused("the request on a directory that is not the root", request, sub, flag, expected=errno.ENOTTY)
refused("the request on a file", request, big, flag, expected=errno.ENOTTY)
for wrong in (3, 0xffffffff):
    refused("a flag that there is not", request, root, wrong, expected=errno.EINVAL)
refused("another request", fcntl.ioctl, root, GOINGDOWN + 1, b"\0\0\0\0", expected=errno.ENOTTY)
os.read(held[0], 1)
request(root, flag)

for fd in held + [big]:
    refused("reading what the kernel had in its pages", os.pread, fd, 10, 0)
    refused("writing a whole page", os.pwrite, fd, b"x" * 4096, 0)
    refused("fsync", os.fsync, fd)
refused("opening", os.open, f"{top}/big", os.O_RDONLY)
refused("creating", os.open, f"{top}/new", os.O_RDWR | os.O_CREAT)
refused("mkdir", os.mkdir, f"{top}/newdir")
refused("rename", os.rename, f"{top}/big", f"{top}/bigger")
refused("unlink", os.unlink, f"{top}/big")
refused("truncate", os.ftruncate, big, 5)
refused("chmod", os.chmod, f"{top}/big", 0o600)
refused("fsync of a directory", os.fsync, sub)
refused("listing", os.listdir, top)
refused("listing the root", os.listdir, root)
os.stat(os.path.dirname(top))
request(root, 2)                    # it has gone already: nothing to do
for fd in held:
    try:
        os.close(fd)
    except OSError as e:
        if e.errno != errno.EIO:
            sys.exit(f"close: {e}")
END

start_bricks "$(sized 1024 512)"
make_fs
mkdir "$T/other"
mount_fs
refused 'errno 1:' python3 "$T/going.py" "$M" 2 65534
umount_fs

declare -A promises=([0]='all that was written' [1]='all that was handed over' [2]='all that was synced')
for round in 0 1 2 ${FULL:+0 2 1 0 1 2 0 0 1}; do
	mount_fs
	noise=()
	for ((i = 0; i < 3; i++)); do
		rm -rf "$M/noise$i"
		python3 "$T/noise.py" "$M/noise$i" "$round$i" >"$T/noise$i.said" 2>&1 &
		noise+=($!)
		soon 60 [ -e "$M/noise$i/ready" ] || fail "the noise does not begin: $(cat "$T/noise$i.said")"
	done
	rm -rf "$M/acts"
	must python3 "$T/acts.py" "$M/acts" $round "$T/listing"
	for pid in "${noise[@]}"; do
		soon 60 gone "$pid" || fail "a writer goes on after the mount has stopped"
		wait "$pid" || fail "a writer ended otherwise than with EIO: $(cat "$T"/noise?.said)"
	done
	# It is ours until it is unmounted.
	[ "$round" != 2 ] || refused 'in use' timeout 60 brickfs "$EP" "$T/other" -f -o wait=1
	umount_fs
	grep -q 'shutdown: shut down on request' "$T/log/brickfs-m" || fail "brickfs does not say that it was shut down"
	# As after a crash: what is found is mended by the next mount.
	fsck.brickfs -n "$EP" >"$T/fsck" 2>&1
	status=$?
	[ $status = 0 ] || [ $status = 4 ] || fail "fsck.brickfs -n ended with status $status: $(cat "$T/fsck")"
	mount_fs
	must sha256sum -c --quiet "$T/listing"
	find "$M" -type f -exec cat {} + >/dev/null || fail "a file cannot be read"
	umount_fs
	fsck_clean
	say "flag $round: ${promises[$round]} is there, $(wc -l <"$T/listing") files"
done
