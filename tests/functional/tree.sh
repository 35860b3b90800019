# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a tree copied with cp -a compares equal, and again after umount and mount, through mount(8)
. "$SRC/tests/functional/lib.sh"

need rsync python3

tree=$T/tree
mkdir "$tree"
if [ -n "$FULL" ]; then
	# At least 20,000 files and 1 GiB of what every machine has.
	start_bricks 6144
	for dir in /usr/include /usr/share /usr/lib /usr/bin /usr/sbin /opt; do
		[ -d "$dir" ] || continue
		files=$(find "$tree" -type f | wc -l)
		kib=$(du -sk "$tree" | cut -f1)
		[ "$files" -ge 20000 ] && [ "$kib" -ge 1048576 ] && break
		cp -a "$dir" "$tree/" 2>/dev/null
		[ "$(du -sk "$tree" | cut -f1)" -lt 5000000 ] || break
	done
	files=$(find "$tree" -type f | wc -l)
	kib=$(du -sk "$tree" | cut -f1)
	[ "$files" -ge 20000 ] && [ "$kib" -ge 1048576 ] || skip "this machine has only $files files, $kib KiB to copy"
elif [ -n "$SMALL" ]; then
	# 1,000 files and 64 MiB, with the odd ones below.
	start_bricks 384
	python3 - "$tree/some" <<'END' || fail "cannot make a tree"
import os, random, sys
rnd = random.Random(2)
for i in range(660):
    directory = f"{sys.argv[1]}/{i % 31}/{i % 5}"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/file-{i}", "wb") as f:
        f.write(rnd.randbytes(9000000 if i < 6 else int(rnd.paretovariate(0.7) * 200) % 60000))
END
else
	start_bricks 1536
	mkdir "$tree/include"
	# Some 3,000 files of all sizes, and a few large ones.
	(cd /usr/include && find . -type f -size -200k | LC_ALL=C sort | head -n 3000 | tar cf - -T -) | tar xf - -C "$tree/include" ||
		fail "cannot gather a tree"
	find /usr/bin /usr/lib -maxdepth 2 -type f -size +3M -size -20M 2>/dev/null | LC_ALL=C sort | head -n 8 | xargs -r cp -p -t "$tree"
fi

# What trees rarely have, and copies easily lose.
python3 - "$tree/odd" "$(sized 1500 350)" <<'END' || fail "cannot make the odd tree"
import os, sys, random
top, many = sys.argv[1], int(sys.argv[2])
os.mkdir(top)
os.chdir(top)
rnd = random.Random(1)
for size in (0, 1, 100, 4095, 4096, 4097, 65536, 100000, 2097151, 2097152, 2097153, 5000000):
    with open(f"size-{size}", "wb") as f:
        f.write(rnd.randbytes(size))
os.link("size-4097", "hard-1")
os.mkdir("sub")
os.link("size-4097", "sub/hard-2")
os.symlink("size-100", "short-symlink")
os.symlink("x" * 4000, "long-symlink")
os.symlink("nowhere/at/all", "dangling")
os.mkfifo("fifo", 0o640)
os.mknod("char", 0o600 | 0o020000, os.makedev(1, 3))
os.mknod("block", 0o600 | 0o060000, os.makedev(7, 200))
with open("sparse", "wb") as f:
    f.truncate(50_000_000)
    f.seek(10_000_000)
    f.write(b"in the middle")
    f.seek(49_999_999)
    f.write(b"!")
with open("n" * 255, "w") as f:
    f.write("long name")
with open("sp ace\nnewline\t\xff\u00e4", "w") as f:
    f.write("odd name")
deep = "deep"
for i in range(60):
    os.mkdir(deep)
    deep += "/d"
os.mkdir("many")
for i in range(many):
    with open(f"many/{i:05}", "w") as f:
        f.write(str(i) * (i % 70))
for mode in (0o000, 0o400, 0o644, 0o755, 0o4755, 0o2755, 0o1777, 0o6711):
    name = f"mode-{mode:o}"
    with open(name, "w") as f:
        f.write(name)
    os.chown(name, 1000 + mode, 2000)
    os.chmod(name, mode)
    os.utime(name, ns=(1_000_000_000_123_456_789, 1_234_567_890_987_654_321))
os.utime("many", ns=(1, 999_999_999))
# The scratch directory may be a tmpfs, which has no user xattrs before Linux 6.6.
for name in ("user.one", "user.two", "trusted.three"):
    try:
        os.setxattr("size-100", name, b"value of " + name.encode())
    except OSError:
        pass
END
files=$(find "$tree" -type f | wc -l)
[ "$files" -ge 1000 ] && [ "$(du -sk "$tree" | cut -f1)" -ge 65536 ] || skip "this machine has only $files files, $(du -sk "$tree" | cut -f1) KiB to copy"
say "$(find "$tree" | wc -l) names, $(du -sk --apparent-size "$tree" | cut -f1) KiB"

make_fs -L tree
mount8 || fail "mount -t fuse.brickfs $EP"
cp -a "$tree" "$M/" || fail "cp -a"
same_tree "$tree" "$M/tree"
python3 -c 'import os, sys; os.setxattr(sys.argv[1], "user.kept", b"over umount")' "$M" || fail "setxattr on the mount"
umount8
fsck_clean
mount8 || fail "the second mount"
same_tree "$tree" "$M/tree"
one_sided
[ "$(python3 -c 'import os, sys; print(os.getxattr(sys.argv[1], "user.kept").decode())' "$M")" = "over umount" ] || fail "the xattr did not survive umount"
cmp "$tree/odd/sparse" "$M/tree/odd/sparse" || fail "the sparse file differs"
rm -rf "$M/tree" || fail "rm -rf"
[ -z "$(ls -A "$M")" ] || fail "after rm -rf there is still: $(ls -A "$M")"
umount8
fsck_clean
