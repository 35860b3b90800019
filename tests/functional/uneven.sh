# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: bricks of different sizes: a full one is no error while another has room, ENOSPC comes when all are full, rm gives back, statfs is true
. "$SRC/tests/functional/lib.sh"

need python3 jq
. "$SRC/tests/functional/user.sh"

# The first is small, the last has the most.
EP=
total=0
for ((i = 1; i <= BRICKS; i++)); do
	size=$((i == 1 ? 24 : i == BRICKS ? $(sized 224 128) : 48))
	start_brick b$i ${size}M
	EP+=${EP:+,}$(endpoint b$i)
	total=$((total + size))
done
make_fs
mount_fs

free_of() {
	ctl "$1" --json stat | jq '[.. | .free? // empty] | first'
}

# Blocks of 2 MiB that the bricks themselves call free.
free_blocks() {
	local i sum=0 one
	for ((i = 1; i <= BRICKS; i++)); do
		one=$(free_of b$i) || fail "brickctl stat of b$i"
		sum=$((sum + one))
	done
	echo $sum
}

# What statfs says, in MiB: all, and free for anybody.
statfs_mib() {
	stat -f -c '%b %f %S' "$M" | awk '{ print $1 * $3 / 1048576, $2 * $3 / 1048576 }'
}

# The bricks and statfs agree, but for superblocks and the reserve of the log (4 blocks here), and for what the log or a drop has under way.
agree() {
	local all free bricks
	read -r all free < <(statfs_mib)
	bricks=$(($(free_blocks) * 2 - 8))
	[ "${all%.*}" = $((total - 2 * BRICKS)) ] && [ "${free%.*}" -ge $((bricks - 6)) ] && [ "${free%.*}" -le $(((bricks < 0 ? 0 : bricks) + 6)) ]
}
soon 60 agree || fail "statfs says $(statfs_mib) MiB (all, free), the bricks have $total MiB and $(free_blocks) blocks free"
empty=$(free_blocks)

cat >"$T/fill.py" <<'END_OF_FILL'
import errno, os, random, sys
# fill.py TOP NAME FIRST END: files of 5 MiB with fsync, of these numbers, until ENOSPC; prints how many there are, and how it ended
top, name, n, end = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
while n < end:
    path = f"{top}/{name}-{n}"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        data = random.Random(f"{name}-{n}").randbytes(5 << 20)
        while data:
            data = data[os.write(fd, data):]
        os.fsync(fd)
    except OSError as e:
        if e.errno != errno.ENOSPC:
            sys.exit(f"{path}: not ENOSPC but {e}")
        try:
            os.close(fd)
        except OSError as e:
            if e.errno != errno.ENOSPC:
                sys.exit(f"close {path}: not ENOSPC but {e}")
        os.unlink(path)
        print(n, "full")
        sys.exit(0)
    os.close(fd)
    n += 1
print(n, "whole")
END_OF_FILL
cat >"$T/check.py" <<'END_OF_CHECK'
import random, sys
top, name, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for n in range(first, last):
    if open(f"{top}/{name}-{n}", "rb").read() != random.Random(f"{name}-{n}").randbytes(5 << 20):
        sys.exit(f"{name}-{n} is not what was fsynced")
END_OF_CHECK

# The small one is full long before the others: nobody notices.
files=0
while [ "$(free_of b1)" -gt 0 ] || [ $files -lt 4 ]; do
	filled=$(python3 "$T/fill.py" "$M" first $files $((files + 2))) || fail "$filled"
	[ "${filled#* }" = whole ] || fail "ENOSPC after $filled of 5 MiB, with $(free_blocks) blocks free"
	files=$((files + 2))
	[ $files -lt 60 ] || fail "the small brick gets none of it"
done
filled=$(python3 "$T/fill.py" "$M" first $files $((files + 1))) || fail "$filled"
[ "${filled#* }" = whole ] || fail "ENOSPC with the small brick full, and $(free_blocks) blocks free"
files=$((files + 1))
[ "$(free_of b$BRICKS)" -gt 5 ] || fail "the test itself: the large brick should have room yet"
soon 60 agree || fail "statfs says $(statfs_mib) MiB (all, free), the bricks have $total MiB and $(free_blocks) blocks free"
say "$files files of 5 MiB; free blocks: $(for ((i = 1; i <= BRICKS; i++)); do free_of b$i; done | tr '\n' ' ')"

# A brick is filled behind our back, while somebody writes: by blocks of another session, which our count knows nothing of.
user_start "$M"
user_works 3
other=0
if [ "$BRICKS" -gt 2 ]; then
	# The last one may go to either of both.
	while ctl b2 alloc "$(printf '0x7000%06x000000' $other)" >"$T/words" 2>&1; do
		other=$((other + 1))
	done
	grep -qiE 'space|full' "$T/words" || fail "brickctl alloc: $(cat "$T/words")"
fi
user_works 6
user_stop
grep -qE 'read-only|cannot be' "$T/log/brickfs-m" && fail "a full brick was taken for an error: $(tail -n 3 "$T/log/brickfs-m")"
umount_fs
for ((i = 0; i < other; i++)); do
	ctl b2 free "$(printf '0x7000%06x000000' $i)" >/dev/null || fail "brickctl free"
done
mount_fs
user_verify "$M"
[ "$BRICKS" -le 2 ] || [ $other -gt 0 ] || fail "the test itself: b2 was full already"
say "$other blocks of b2 were taken away meanwhile"

# To the end: ENOSPC when all are full, but for the reserve of the log.
filled=$(python3 "$T/fill.py" "$M" second 0 $total) || fail "$filled"
[ "${filled#* }" = full ] || fail "never full: $filled"
more=${filled% *}
for ((i = 1; i < BRICKS; i++)); do
	[ "$(free_of b$i)" -le 8 ] || fail "ENOSPC, though b$i has $(free_of b$i) free blocks"
done
[ "$(free_blocks)" -le 10 ] || fail "ENOSPC, though $(free_blocks) blocks are free"
[ "$(free_kib "$M")" -le 8192 ] || fail "ENOSPC, but statfs says $(free_kib "$M") KiB are free for users"
soon 60 agree || fail "full: statfs says $(statfs_mib) MiB (all, free), the bricks have $total MiB and $(free_blocks) blocks free"
python3 "$T/check.py" "$M" first 0 "$files" || fail "on the full volume"
umount_fs
fsck_clean
mount_fs
python3 "$T/check.py" "$M" first 0 "$files" && python3 "$T/check.py" "$M" second 0 "$more" || fail "after a mount"
user_verify "$M"

# rm on the full volume; what comes back can be used again, on whichever brick it is.
before=$(free_blocks)
for ((i = 0; i < files; i += 2)); do
	rm "$M/first-$i" || fail "rm on a full volume"
done
gained() { [ "$(free_blocks)" -ge $((before + files)) ]; }
soon 60 gained || fail "rm of $(((files + 1) / 2)) files of 5 MiB gave $(($(free_blocks) - before)) blocks back"
soon 60 agree || fail "after rm: statfs says $(statfs_mib) MiB (all, free), the bricks have $total MiB and $(free_blocks) blocks free"
[ "$(free_of b1)" -gt 0 ] || say "nothing of it was on b1"
filled=$(python3 "$T/fill.py" "$M" third 0 $((files / 2 - 2))) || fail "$filled"
[ "${filled#* }" = whole ] || fail "ENOSPC after $filled, with $(free_blocks) blocks free"
python3 "$T/check.py" "$M" third 0 "${filled% *}" || fail "what was written into the room that rm made"
rm -r "${M:?}"/* || fail "rm of everything"
all_back() { [ "$(free_blocks)" -ge $((empty - 4)) ]; }
soon 60 all_back || fail "$empty blocks were free before, $(free_blocks) after all was removed"
grep -qE 'read-only|cannot be' "$T/log/brickfs-m" && fail "a full brick was taken for an error: $(grep -E 'read-only|cannot be' "$T/log/brickfs-m" | head -n 3)"
umount_fs
fsck_clean
