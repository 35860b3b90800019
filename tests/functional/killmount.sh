# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: kill -9 of brickfs in the middle of a copy: the next mount works, what was fsynced is there, nothing leaks
. "$SRC/tests/functional/lib.sh"

need python3

# Writes files for ever, fsyncs some, and names each that was fsynced in the list, after the fsync.
cat >"$T/copier.py" <<'END'
import os, sys, random, hashlib
top, listing, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
rnd = random.Random(seed)
out = open(listing, "a", buffering=1)
os.makedirs(top, exist_ok=True)
try:
    for i in range(1, 10**9):
        directory = f"{top}/d{i % 17}"
        os.makedirs(directory, exist_ok=True)
        name = f"{directory}/f{i}"
        data = rnd.randbytes(rnd.choice((0, 10, 300, 4096, 5000, 40000, 300000, 2500000)))
        with open(name, "wb", buffering=0) as f:
            view = memoryview(data)
            while view:
                view = view[f.write(view):]
            kind = i % 4
            if kind == 0:
                os.fsync(f.fileno())
                out.write(f"{hashlib.sha256(data).hexdigest()} {name}\n")
        if kind == 1:
            os.rename(name, f"{directory}/r{i}")
            fd = os.open(f"{directory}/r{i}", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            out.write(f"{hashlib.sha256(data).hexdigest()} {directory}/r{i}\n")
        elif kind == 2 and i > 40 and rnd.random() < 0.7:
            os.unlink(name)
        elif kind == 3:
            with open(name, "r+b") as f:
                f.truncate(len(data) // 2)
except OSError as e:
    print(f"the copier ends at file {i}: {e}")
END

start_bricks "$(sized 1536 512)"
make_fs
empty=$(used_blocks)
: >"$T/fsynced"
rounds=${FULL:+20}
rounds=${rounds:-$(sized 4 2)}
for ((round = 1; round <= rounds; round++)); do
	mount_fs
	if [ -s "$T/fsynced" ]; then
		must sha256sum -c --quiet "$T/fsynced"
		# Files that were never fsynced are whole names with some size: they can be read, all of them.
		find "$M" -type f -exec cat {} + >"/dev/null" || fail "a file cannot be read after kill -9"
	fi
	python3 "$T/copier.py" "$M/round$round" "$T/fsynced" $round &
	copier=$!
	lines=$(($(wc -l <"$T/fsynced") + 20 * round))
	enough() { [ "$(wc -l <"$T/fsynced")" -ge $lines ] || gone $copier; }
	soon 120 enough || fail "the copier makes no progress"
	alive $copier || fail "the copier ended by itself"
	kill9_mount
	wait $copier
	# What a crash leaves is consistent; orphans and lost blocks are told, and mended by the next mount.
	fsck.brickfs -n "$EP" >"$T/fsck-$round" 2>&1
	status=$?
	say "round $round: $(wc -l <"$T/fsynced") files fsynced; fsck.brickfs -n: status $status, $(tail -n 1 "$T/fsck-$round")"
	[ $status -le 4 ] || fail "fsck.brickfs -n ended with status $status"
done
mount_fs
must sha256sum -c --quiet "$T/fsynced"
umount_fs
fsck_clean
mount_fs
rm -rf "$M"/round* || fail "rm -rf"
sync -f "$M"
umount_fs
fsck_clean
mount_fs
umount_fs
left=$(used_blocks)
# Log segments may stay, one for each mount that wrote, until a checkpoint is worth it: with little data, it is not.
log=0
for ((i = 1; i <= BRICKS; i++)); do
	log=$((log + $(addresses b$i | grep -c '^0x2')))
done
[ "$((left - log))" -le "$BRICKS" ] || fail "$left blocks are used after everything was deleted, $log of them by the log; $empty by the empty filesystem"
[ "$log" -le "$(sized 5 $((rounds + 5)))" ] || fail "the log has $log segments"
say "blocks used: $empty when made, $left after all was deleted"
