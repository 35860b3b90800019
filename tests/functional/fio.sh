# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: fio --verify=crc32c: random writes, buffered and direct, mapped and in parallel, read back right, also after a remount
. "$SRC/tests/functional/lib.sh"

need fio

start_bricks "$(sized 1024 256)"
make_fs
mount_fs
size=${FULL:+256M}
size=${size:-$(sized 24M 4M)}
job() {
	local name=$1
	shift
	say "fio $name"
	must fio --name="$name" --directory="$M" --size="$size" --verify=crc32c --verify_fatal=1 --verify_dump=0 --randrepeat=1 \
		--output-format=terse "$@"
}
job buffered --rw=randwrite --bs=4k --ioengine=psync --numjobs=2 --fsync=500
job direct --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=16 --numjobs=2
job mixed --rw=randrw --bsrange=512-256k --blockalign=512 --ioengine=psync
job big --rw=write --bs=1M --direct=1 --ioengine=libaio --iodepth=8
job mapped --rw=randwrite --bs=4k --ioengine=mmap
job odd --rw=randwrite --bsrange=1k-100k --bs_unaligned=1 --ioengine=psync --fallocate=none
umount_fs
mount_fs
for name in buffered direct big mapped; do
	case $name in
	buffered) again="--rw=randwrite --bs=4k --numjobs=2" ;;
	direct) again="--rw=randwrite --bs=4k --numjobs=2" ;;
	big) again="--rw=write --bs=1M" ;;
	mapped) again="--rw=randwrite --bs=4k" ;;
	esac
	# shellcheck disable=SC2086
	job $name $again --ioengine=psync --verify_only=1
done
umount_fs
one_sided
fsck_clean
