# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: what POSIX and Linux promise of names, links, modes, times, holes, renames and mappings, and after a remount
. "$SRC/tests/functional/lib.sh"

need python3

start_bricks "$(sized 1024 384)"
make_fs
mount_fs
chmod 755 "$M"
mkdir "$M/posix"
python3 "$SRC/tests/functional/posix.py" "$M/posix" || fail "posix.py"
umount_fs
fsck_clean
mount_fs
python3 "$SRC/tests/functional/posix.py" --after "$M/posix" || fail "posix.py --after"
rm -rf "$M/posix" || fail "rm -rf"
umount_fs
fsck_clean
