# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: this project configured and built on the mount; its unit tests run there (FULL=1: all of it, else common/)
. "$SRC/tests/functional/lib.sh"

need make gcc

start_bricks 1024
make_fs
mount_fs
mkdir "$M/src"
for entry in "$SRC"/* "$SRC"/.[a-z]*; do
	# Neither build directories nor the history.
	[ -e "$entry/config.status" ] || [ "${entry##*/}" = .git ] || cp -a "$entry" "$M/src/" || fail "cannot copy $entry"
done
[ -x "$M/src/configure" ] || skip "the source has no ./configure yet (./bootstrap)"
rm -f "$M/src/config.status" "$M/src/Makefile"
mkdir "$M/build"
cd "$M/build" || fail "cd"
must ../src/configure --disable-dependency-tracking
if [ -n "$FULL" ]; then
	must make -j2
	BRICK_TESTS=unit must make -j2 check
else
	must make -j2 common/libcommon.la
	[ -f common/libcommon.la ] || fail "no library was built"
fi
must make clean
cd / || exit 1
umount_fs
fsck_clean
