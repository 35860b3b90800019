# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: mount(8): options, source as given, fstab, umount that waits, ro, a dead mount detached by the next one
. "$SRC/tests/functional/lib.sh"

need python3

start_bricks "$(sized 384 128)"
make_fs -L mounted
options_of() {
	awk -v dir="$1" '$5 == dir { print $6 "," $NF; for (i = 7; i < NF; i++) if ($i == "-") print "type=" $(i + 1) " source=" $(i + 2) }' /proc/self/mountinfo
}

mount8 || fail "mount -t fuse.brickfs"
grep -qF "type=fuse.brickfs source=$EP" <<<"$(options_of "$M")" || fail "the source should read $EP: $(options_of "$M")"
grep -q 'default_permissions' <<<"$(options_of "$M")" || fail "no default_permissions: $(options_of "$M")"
echo hello >"$M/file"
cp /bin/true "$M/suid-true" && chmod 4755 "$M/suid-true"
umount8

# Remounted at once, many times: umount comes back before the daemon is done, mount waits for it.
for i in $(seq 1 "$(sized 30 6)"); do
	mount -t fuse.brickfs "$EP" "$M" || fail "mount $i, right after umount"
	[ "$(cat "$M/file")" = hello ] || fail "mount $i: the file"
	echo $i >"$M/n$i"
	umount "$M" || fail "umount $i"
done

# Unmounted as soon as it is there, before brickfs has asked for the root itself: that is no failure of the mount.
mkdir "$T/quick"
cat >"$T/quick.py" <<'END'
import ctypes, os, sys, time
umount2 = ctypes.CDLL(None).umount2
try:                                # to be quicker than brickfs
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except OSError:
    pass
open(sys.argv[2], "w").close()
end = time.monotonic() + 60
while umount2(sys.argv[1].encode(), 0):
    if time.monotonic() > end:
        sys.exit("it was never mounted")
END
for i in $(seq 1 "$(sized 10 2)"); do
	rm -f "$T/quick.ready"
	python3 "$T/quick.py" "$T/quick" "$T/quick.ready" &
	unmounter=$!
	soon 60 [ -e "$T/quick.ready" ] || fail "python3 does not start"
	brickfs "$EP" "$T/quick" -f >>"$T/log/brickfs-quick" 2>&1 ||
		fail "brickfs ended with an error, though it was mounted and unmounted: $(tail -n 5 "$T/log/brickfs-quick")"
	wait $unmounter || fail "what was to be unmounted at once"
done

# umount(8) comes back when the daemon is done, not when the kernel is: by its helper. A brick that is stopped shows it.
mount8 || fail "mount"
echo late >"$M/late"
sync -f "$M"
kill -STOP "${brick_pid[b1]}"
umount "$M" &
umount_pid=$!
unmounted() { ! mountpoint -q "$M"; }
soon 60 unmounted || fail "umount hangs"
sleep 1
gone $umount_pid && fail "umount came back though brickfs cannot be done yet"
kill -CONT "${brick_pid[b1]}"
wait $umount_pid || fail "umount, in the end"
soon 10 gone "${mount_pid[m]}" || fail "umount came back, and brickfs (${mount_pid[m]}) still runs"

# ro: reads, and changes nothing.
before=$(used_blocks)
mount8 ro || fail "mount -o ro"
[ "$(cat "$M/file")" = hello ] || fail "ro: the file"
refused 'read-only' touch "$M/new"
refused 'read-only' rm "$M/file"
umount8
[ "$(used_blocks)" = "$before" ] || fail "a read-only mount allocated or freed blocks"

# As fstab says it, and other options.
printf '%s %s fuse.brickfs noauto,_netdev,noatime,nosuid,nodev,noexec,timeo=20 0 0\n' "$EP" "$M" >"$T/fstab"
must mount --fstab "$T/fstab" "$M"
mount_pid[m]=$(daemon_of "$M")
for option in noatime nosuid nodev noexec; do
	grep -qw $option <<<"$(options_of "$M")" || fail "the option $option is missing: $(options_of "$M")"
done
refused 'permission denied|not permitted' sh -c "'$M/suid-true'"
umount8
mount8 suid,dev,exec || fail "mount -o suid,dev,exec"
"$M/suid-true" || fail "a program on the mount"
must mknod "$M/null" c 1 3
echo x >"$M/null" || fail "a device on a mount with -o dev"
umount8
mount8 sync || fail "mount -o sync"
echo synced >"$M/synced"
kill -9 "${mount_pid[m]}"
soon 30 gone "${mount_pid[m]}" || fail "kill -9"

# Dead, and still mounted: ENOTCONN for whoever looks; the next mount takes its place.
stat "$M/file" 2>/dev/null && fail "a dead mount answers"
mount8 || fail "the next mount over a dead one"
[ "$(grep -c " $M " /proc/self/mountinfo)" = 1 ] || fail "the dead mount is still there beneath: $(grep " $M " /proc/self/mountinfo)"
[ "$(cat "$M/synced")" = synced ] || fail "what was written with -o sync is gone after kill -9"
umount8
refused 'no_such_option|unknown|option' mount -t fuse.brickfs "$EP" "$M" -o no_such_option
mountpoint -q "$M" && fail "mounted with an unknown option"
refused 'not exist|no such|not a directory' mount -t fuse.brickfs "$EP" "$T/no/such/directory"
fsck_clean
