# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: RDMA FLUSH is granted on an NVDIMM and nowhere else; what it persisted is there after kill -9, and the brick was sent no PERSIST for it
#
# Wants two NVDIMMs, /dev/vmpmem0 and /dev/vmpmem1, and a build whose rdma-core can: tests/rdma/flush.sh sees to both.
. "$SRC/tests/functional/lib.sh"

[ "$TRANSPORT" = rdma ] || skip "of verbs only"
[ -c /dev/vmpmem0 ] && [ -c /dev/vmpmem1 ] || skip "no two NVDIMMs here (tests/rdma/flush.sh runs it in a machine that has them)"
grep -q 'HAVE_DECL_IBV_WR_FLUSH 1' "$BUILD/config.h" || skip "built with an rdma-core that has no RDMA FLUSH (tests/rdma/flush.sh builds with a newer one)"
need jq
client=$BUILD/tests/rdma/flush-client
[ -x "$client" ] || fail "$client is not built"

# FLUSHes with persistent placement that the device (Soft-RoCE) carried out, in all.
mkdir -p "$T/tracing" && mount -t tracefs tracefs "$T/tracing" && echo 'p:brickfs_flush rdma_rxe:rxe_flush_pmem_iova' >"$T/tracing/kprobe_events" &&
	echo 1 >"$T/tracing/events/kprobes/brickfs_flush/enable" || fail "cannot count what the device flushes"
flushes() {
	awk '$1 == "brickfs_flush" { print $2 }' "$T/tracing/kprobe_profile"
}

# PERSIST messages that a brick has had.
persists() {
	brickctl -b "unix:$T/$1.sock" --json stat | jq '.ops[] | select(.op == "persist").count'
}

run() {
	timeout -k 5 120 "$client" "$@" >"$T/words" 2>&1 || fail "flush-client ${*:2}: $(tail -n 5 "$T/words")"
	say "flush-client ${*:2}: $(tail -n 1 "$T/words")"
}

# --- through libbrick

brick_pool[b1]=/dev/vmpmem0
must brickd --pool /dev/vmpmem0 --create 192M
start_brick b1 192M --log-level info
run "$(endpoint b1)" method flush
run "$(endpoint b1 unix)" method target
run "$(endpoint b1 tcp)" method target
brickctl -b "$(endpoint b1)" stat | grep -q '^persistence *flush' || fail "brickctl stat does not say flush: $(ctl b1 stat)"
grep -q 'persists by RDMA FLUSH' "$T/log/brickd-b1" || fail "brickd's log does not say it"
before=$(flushes)
run "$(endpoint b1)" persist
asked=$(sed -n 's/^flushed //p' "$T/words")
done=$(($(flushes) - before))
[ "$asked" -gt 1000 ] && [ $done -ge "$asked" ] || fail "$asked ranges were to be flushed, and the device flushed $done times"
say "$asked ranges, $done FLUSHes carried out by the device"
kill9_brick b1
brick_serve b1
run "$(endpoint b1)" check
for what in fallback stale; do
	run "$(endpoint b1)" $what
done
run "$(endpoint b1)" mixed "$(endpoint b1 unix)"

# --- by brickctl, and by a filesystem that has more than it may map

A=0x7000000000000000
must ctl b1 alloc $A
before=$(persists b1)
head -c 300000 /dev/urandom >"$T/data"
ctl_write b1 $A 1001 <"$T/data" || fail "brickctl write"
[ "$(persists b1)" = "$before" ] || fail "brickctl write --persist has sent a PERSIST"
kill9_brick b1
brick_options[b1]="--max-maps 8"
brick_serve b1
ctl_read b1 $A 1001 300000 | cmp - "$T/data" || fail "persisted bytes are gone after kill -9"
must ctl b1 free $A

EP=$(endpoint b1)
mkfs.brickfs "$EP" >"$T/words" 2>&1 || fail "mkfs.brickfs: $(cat "$T/words")"
grep -q '^persistence *flush' "$T/words" || fail "mkfs does not say flush: $(cat "$T/words")"
before=$(flushes) sent=$(persists b1)
mount8 timeo=120 || fail "mount -t fuse.brickfs"
mkdir "$T/from" && cp -a "$SRC/common" "$SRC/man" "$T/from" && head -c 40M /dev/urandom >"$T/from/large"
cp -a "$T/from" "$M/to" && sync -f "$M" || fail "cp and sync"
done=$(($(flushes) - before))
[ $done -gt 0 ] && [ "$(persists b1)" = "$sent" ] ||
	fail "a filesystem persisted by $done FLUSHes, and the brick had $(($(persists b1) - sent)) PERSISTs"
say "a filesystem: $done FLUSHes, and no PERSIST"
head -c 5M /dev/urandom >"$T/from/again" && cp "$T/from/again" "$M/to/again" && sync "$M/to/again" || fail "cp and sync"
kill -9 "${mount_pid[m]}"
kill9_brick b1
umount -l "$M"
brick_serve b1
mount8 timeo=120 || fail "mount after kill -9"
cmp "$T/from/again" "$M/to/again" || fail "what was fsynced is not there"
same_tree "$T/from/man" "$M/to/man"
cmp "$T/from/large" "$M/to/large" || fail "what was synced is not there"
# The brick dies under the mount: the lanes come back, and flush again.
kill9_brick b1
brick_serve b1
before=$(flushes)
head -c 3M /dev/urandom >"$T/from/third" && cp "$T/from/third" "$M/to/third" && sync "$M/to/third" || fail "cp and sync after the brick died"
[ "$(flushes)" -gt "$before" ] || fail "after the brick died nothing is flushed any more"
umount8
one_sided
fsck_clean
stop_brick b1

# --- where it must not be granted

start_brick b2 32M
run "$(endpoint b2)" method target
stop_brick b2
must brickd --pool "$T/pool/b3" --create 32M --volatile
start_brick b3 32M
run "$(endpoint b3)" method volatile
stop_brick b3
for how in "--memory 32M" --fault; do
	brick_options[b1]=$how
	brick_serve b1
	run "$(endpoint b1)" method target
	stop_brick b1
done

# --- the bare protocol, and killed at random points

POOL=/dev/vmpmem1 bash "$SRC/tests/rdma/raw-verbs.sh" "$BUILD" flush || fail "raw-verbs flush"
before=$(flushes)
timeout -k 10 200 "$BUILD/tests/functional/persist" --brickd "$BUILD/target/brickd" --pool /dev/vmpmem1 --listen "rdma://$RDMA_ADDRESS:0" \
	--log "$T/log/persist" --blocks 6 --points "${PERSIST_POINTS:-15}" --seconds "${PERSIST_SECONDS:-15}" --keeps -- --public >"$T/words" 2>&1 ||
	fail "persist: $(tail -n 4 "$T/words")"
say "$(tail -n 1 "$T/words"); $(($(flushes) - before)) FLUSHes"
[ "$(flushes)" -gt "$before" ] || fail "nothing was flushed"
