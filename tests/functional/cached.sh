# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a store far larger than the brick's memory carries a filesystem; kill -9 in the middle of it loses nothing
. "$SRC/tests/functional/lib.sh"

need fio python3

# Where there is room: 4 GiB behind 64 MiB, and 1 GiB of data; else an eighth of it.
store=512 memory=16 data=128
if [ -n "$FULL" ]; then
	store=4096 memory=64 data=1024
elif [ -n "$SMALL" ] && mountpoint -q /mnt/pmem1; then
	# The machine of the RDMA lane has little memory, and an NVDIMM that is large enough.
	store=4096 memory=64 data=128
	brick_pool[b1]=/mnt/pmem1/cached-pool
fi
mkdir -p "$T/memory"
mount -t tmpfs -o size=$((memory + 8))m,mode=700 tmpfs "$T/memory" || skip "cannot mount a tmpfs"
start_bricks $store --memory ${memory}M --memory-dir "$T/memory"
stat_of() {
	ctl b1 --json stat | jq -r "$1"
}
[ "$(stat_of .memory.blocks)" = $((memory / 2)) ] || fail "stat shows no memory: $(ctl b1 stat)"
ctl b1 stat | grep -q '^memory ' || fail "stat has no line for memory: $(ctl b1 stat)"
epoch=$(stat_of .loss_epoch)
make_fs
mount_fs timeo=60

job() {
	local name=$1
	shift
	say "fio $name"
	must fio --name="$name" --directory="$M" --verify=crc32c --verify_fatal=1 --verify_dump=0 --randrepeat=1 \
		--output-format=terse "$@"
}
job random --size=${data}M --rw=randwrite --bs=64k --ioengine=psync --fsync=2000
job direct --size=$((data / 16))M --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=8
evictions=$(stat_of .memory.evictions)
[ "$evictions" -gt $((data / 4)) ] || fail "only $evictions blocks were evicted: that was no test of memory that is too small"
umount_fs
mount_fs timeo=60
job random --size=${data}M --rw=randwrite --bs=64k --ioengine=psync --verify_only=1
job direct --size=$((data / 16))M --rw=randwrite --bs=4k --ioengine=psync --verify_only=1

# Killed under a mount, while it writes, several times.
cat >"$T/writer.py" <<'END2'
import os, random, sys, time
path, stop = sys.argv[1:3]
rnd = random.Random(5)
n = 0
with open(path, "wb", buffering=0) as f:
    while not os.path.exists(stop) or n < 40:
        f.write(rnd.randbytes(300000))
        n += 1
        if n % 10 == 0:
            os.fsync(f.fileno())
        if n % 200 == 0:
            f.seek(0)
            rnd = random.Random(5)
print(f"{n} pieces written", flush=True)
last = (n - 1) % 200 + 1
rnd = random.Random(5)
with open(path, "rb") as f:
    for i in range(last):
        if f.read(300000) != rnd.randbytes(300000):
            sys.exit(f"piece {i} differs")
END2
python3 "$T/writer.py" "$M/file" "$T/stop" &
writer=$!
for try in 1 2 3; do
	sleep 1
	kill9_brick b1
	ls "$T"/memory/brickd-*.memory >/dev/null || fail "kill -9 has taken the memory file with it"
	brick_serve b1
	grep -q 'taken up, with' "$T/log/brickd-b1" || fail "the memory was not taken up"
done
touch "$T/stop"
soon 120 gone $writer || fail "the writer hangs after brickd came back"
wait $writer || fail "the writer failed over a kill of brickd"
[ "$(stat_of .loss_epoch)" = "$epoch" ] || fail "the loss epoch is $(stat_of .loss_epoch), and was $epoch"
job random --size=${data}M --rw=randwrite --bs=64k --ioengine=psync --verify_only=1

# What the mount leaves unpersisted is unsettled; the brick dies with it, and without its memory it is refused.
echo kept >"$M/kept"
kill9_brick b1
refused "newer bytes in $T/memory/brickd-.*start with --memory ${memory}M" brickd --pool "$(pool_of b1)" --listen "unix:$T/no.sock"
brick_serve b1
umount_fs
mount_fs
[ "$(cat "$M/kept")" = kept ] || fail "what was written before the kill is gone"
umount_fs
fsck_clean
[ "$(stat_of .loss_epoch)" = "$epoch" ] || fail "the loss epoch is $(stat_of .loss_epoch), and was $epoch"

# An orderly end brings everything home, and needs memory no more.
stop_brick b1
[ -z "$(ls "$T/memory")" ] || fail "an orderly end left $(ls "$T/memory")"
brick_options[b1]=${MAPS:+--max-maps 64}
brick_serve b1
# Over rdma a plain file is served from memory all the same, of a size of the brick's own choice.
if [ "$TRANSPORT" = rdma ]; then
	grep -q 'cached in .* of memory; --memory SIZE says how much' "$T/log/brickd-b1" || fail "brickd does not say that it serves from memory"
	[ "$(stat_of .memory.blocks)" != 0 ] || fail "a plain file over rdma without memory"
else
	[ "$(stat_of .memory.blocks)" = 0 ] || fail "direct mode has memory"
fi
[ "$(stat_of .loss_epoch)" = "$epoch" ] || fail "an orderly end raised the loss epoch"
mount_fs
job random --size=${data}M --rw=randwrite --bs=64k --ioengine=psync --verify_only=1
umount_fs
fsck_clean
stop_brick b1

# Options that make no sense.
pool=$(pool_of b1)
refused 'too little|at least' brickd --pool "$pool" --listen "unix:$T/x" --memory 8M
refused 'the host has' brickd --pool "$pool" --listen "unix:$T/x" --memory 900T
refused 'not a size' brickd --pool "$pool" --listen "unix:$T/x" --memory much
refused 'goes with --listen' brickd --pool "$T/new" --create 8M --memory 64M
refused 'neither tmpfs nor hugetlbfs' brickd --pool "$pool" --listen "unix:$T/x" --memory 16M --memory-dir /proc
refused 'no room|no memory' brickd --pool "$pool" --listen "unix:$T/x" --memory $((memory * 2))M --memory-dir "$T/memory"
refused 'with --create' brickd --pool "$pool" --listen "unix:$T/x" --volatile
[ -z "$(ls "$T/memory")" ] || fail "a refusal left $(ls "$T/memory")"

# Volatile: declared once, told ever after.
must brickd --pool "$T/pool/v" --create 64M --volatile
start_brick v 64M
grep -q volatile "$T/log/brickd-v" || fail "brickd does not say that the pool is volatile"
[ "$(ctl v --json stat | jq -r .method)" = volatile ] || fail "stat does not say volatile"
stop_brick v
