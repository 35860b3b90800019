# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: git clone on the mount, commits, gc and git fsck --full find nothing wrong
. "$SRC/tests/functional/lib.sh"

need git

export HOME=$T GIT_CONFIG_NOSYSTEM=1
git config --global user.name tester
git config --global user.email tester@example.org
git config --global init.defaultBranch main
git config --global gc.auto 0
git config --global safe.directory '*'
quiet() { must git -c advice.detachedHead=false "$@"; }

# A repository with some history: made here, so that a tarball of the source will do.
quiet init -q "$T/origin"
for i in $(seq 1 25); do
	mkdir -p "$T/origin/d$((i % 5))"
	cp "$SRC"/common/*.[ch] "$T/origin/d$((i % 5))/"
	head -c $((i * 3000)) /dev/urandom >"$T/origin/random-$((i % 7))"
	seq $i $((i * 400)) >"$T/origin/d$((i % 5))/numbers"
	quiet -C "$T/origin" add -A
	quiet -C "$T/origin" commit -qm "change $i"
done

start_bricks 512
make_fs
mount_fs
quiet clone -q --no-hardlinks "$T/origin" "$M/clone"
quiet -C "$M/clone" fsck --full --strict
for i in $(seq 1 15); do
	echo "$i" >>"$M/clone/d1/numbers"
	rm -f "$M/clone/random-$((i % 7))"
	quiet -C "$M/clone" add -A
	quiet -C "$M/clone" commit -qm "on the mount $i"
done
quiet -C "$M/clone" checkout -q HEAD~20
quiet -C "$M/clone" checkout -q main
quiet clone -q "$M/clone" "$M/clone2"
quiet -C "$M/clone" gc -q --aggressive --prune=now
quiet -C "$M/clone" fsck --full --strict
[ -z "$(git -C "$M/clone" status --porcelain)" ] || fail "git status is not clean"
umount_fs
mount_fs
quiet -C "$M/clone" fsck --full --strict
quiet -C "$M/clone2" fsck --full --strict
[ "$(git -C "$M/clone2" rev-parse HEAD)" = "$(git -C "$M/clone" rev-parse HEAD)" ] || fail "the clones differ"
quiet -C "$T/origin" pull -q "$M/clone" main
umount_fs
fsck_clean
