# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: stress-ng --verify: hdd, dentry, dir, rename, link, fallocate and xattr stressors end without a failure
. "$SRC/tests/functional/lib.sh"

need stress-ng

start_bricks 1024
make_fs
mount_fs
seconds=${FULL:+60}
seconds=${seconds:-3}
mkdir "$M/stress"
stressors="hdd dentry dir rename link fallocate xattr mmap-file"
for stressor in $stressors; do
	options=
	case $stressor in
	hdd) options="--hdd-bytes 32M --hdd-opts direct,fsync,wr-rnd,rd-rnd" ;;
	dentry) options="--dentries 512" ;;
	fallocate) options="--fallocate-bytes 64M" ;;
	mmap-file)
		say "stress-ng mmap with a file"
		must stress-ng --temp-path "$M/stress" --verify --mmap 2 --mmap-file --mmap-bytes 16M -t "$seconds"
		continue
		;;
	esac
	say "stress-ng $stressor"
	# shellcheck disable=SC2086
	must stress-ng --temp-path "$M/stress" --verify --$stressor 2 $options -t "$seconds"
done
say "all at once"
must stress-ng --temp-path "$M/stress" --verify --hdd 1 --hdd-bytes 16M --dentry 1 --dentries 256 --dir 1 --rename 1 --link 1 --fallocate 1 \
	--fallocate-bytes 32M --xattr 1 -t "$seconds"
left=$(find "$M/stress" -mindepth 1 | head -n 5)
[ -z "$left" ] || fail "stress-ng left: $left"
umount_fs
fsck_clean
mount_fs
umount_fs
