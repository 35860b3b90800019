# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a brick on an NVDIMM (devdax over rdma, a file with DAX over the others), killed at random points: what was fsynced stays
. "$SRC/tests/functional/lib.sh"

need python3 jq

# Of 512 MiB a little is the namespace's own, and a little the pool's.
case $TRANSPORT in
rdma) brick_pool[b1]=/dev/vmpmem0 size=480M ;;
*) brick_pool[b1]=/mnt/pmem1/$TRANSPORT-pool size=192M ;;
esac
[ -c /dev/vmpmem0 ] && mountpoint -q /mnt/pmem1 || skip "no NVDIMM here (tests/rdma/lane.sh runs it in a machine that has two)"

must brickd --pool "${brick_pool[b1]}" --create "$size"
start_brick b1 "$size"
if [ "$TRANSPORT" != rdma ]; then
	# "sf" is a mapping whose page faults are synchronous: flushing cache lines is all that persistence takes there.
	awk -v pool="${brick_pool[b1]}" '$NF == pool { mine = 1; next } /^[0-9a-f]+-[0-9a-f]+ / { mine = 0 } mine && /^VmFlags:.* sf( |$)/ { found = 1 }
		END { exit !found }' "/proc/${brick_pid[b1]}/smaps" || fail "brickd has not mapped ${brick_pool[b1]} as DAX"
fi
[ "$(ctl b1 --json stat | jq -r .method)" = target ] || fail "the method is not target: $(ctl b1 stat)"

# By the calls: persisted is there in the next brickd, killed at once.
A=0x7000000000000000
must ctl b1 alloc $A
for i in 1 2 3; do
	head -c 300000 /dev/urandom >"$T/data"
	ctl_write b1 $A $((i * 1001)) <"$T/data" || fail "brickctl write"
	kill9_brick b1
	brick_serve b1
	ctl_read b1 $A $((i * 1001)) 300000 | cmp - "$T/data" || fail "persisted bytes are gone after kill -9"
done
must ctl b1 free $A

# By a filesystem: files of all sizes, fsynced and named in a list, while the brick is killed again and again.
EP=$(endpoint b1)
make_fs
mount_fs timeo=120
cat >"$T/writer.py" <<'END'
import hashlib, os, random, sys
top, listing, stop = sys.argv[1:4]
rnd = random.Random(5)
out = open(listing, "w", buffering=1)
n = 0
while not os.path.exists(stop):
    n += 1
    data = rnd.randbytes(rnd.choice((20, 3000, 5000, 60000, 700000)))
    name = f"{top}/d{n % 5}/f{n % 60}"
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name + ".new", "wb", buffering=0) as f:
        f.write(data)
        os.fsync(f.fileno())
    os.rename(name + ".new", name)
    fd = os.open(os.path.dirname(name), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    out.write(f"{hashlib.sha256(data).hexdigest()} {name}\n")
END
python3 "$T/writer.py" "$M" "$T/fsynced" "$T/stop" &
writer=$!
written() { [ "$(wc -l <"$T/fsynced" 2>/dev/null || echo 0)" -ge "$1" ]; }
lines=5
for ((i = 1; i <= 4; i++)); do
	soon 180 written $lines || fail "the writer makes no progress"
	alive $writer || fail "the writer ended by itself"
	sleep 0.$((RANDOM % 900 + 100))
	kill9_brick b1
	brick_serve b1
	lines=$(($(wc -l <"$T/fsynced") + 8))
done
soon 180 written $lines || fail "the writer makes no progress any more"
# The last time both die, in either order.
if [ $((RANDOM % 2)) = 0 ]; then
	kill -9 "${mount_pid[m]}"
	kill9_brick b1
else
	kill9_brick b1
	kill -9 "${mount_pid[m]}"
fi
: >"$T/stop"
wait "${mount_pid[m]}" 2>/dev/null
umount -l "$M"
wait $writer 2>/dev/null
brick_serve b1
mount_fs
# A name stands for what was fsynced under it last, or, one at most, for what was on the way to replace that.
tac "$T/fsynced" | awk '!seen[$2]++ { print $1 "  " $2 }' >"$T/last"
sha256sum -c --quiet "$T/last" >"$T/wrong" 2>"$T/words"
[ "$(wc -l <"$T/wrong")" -le 1 ] || fail "$(wc -l <"$T/wrong") of $(wc -l <"$T/last") files are not what was fsynced: $(head -n 5 "$T/wrong")"
! grep -q 'open or read' "$T/wrong" || fail "a file that was fsynced is gone: $(cat "$T/wrong")"
say "$(wc -l <"$T/fsynced") files fsynced, $(wc -l <"$T/last") names, over 5 kills"
umount_fs
one_sided
fsck_clean
stop_brick b1
