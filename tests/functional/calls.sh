# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: brickctl: the calls over this transport; data written is data read, errors are told, sessions can be revoked
. "$SRC/tests/functional/lib.sh"

need jq python3

start_brick b1 64M
A=0x1000000000000000
B=0x1000000000200000

must ctl b1 stat
[ "$(ctl b1 --json stat | jq -r '[.. | .capacity? // empty] | first | tonumber > 0')" = true ] || fail "stat says no capacity: $(ctl b1 --json stat)"
must ctl b1 alloc $A
must ctl b1 alloc $B
refused 'exist' ctl b1 alloc $A
refused 'aligned|invalid|multiple' ctl b1 alloc 0x1000000000000001
refused 'no such|not allocated|ENOENT|not exist' ctl b1 free 0x2000000000000000
[ "$(addresses b1 | wc -l)" = 2 ] || fail "list: $(ctl b1 list)"
[ "$(addresses b1 | sed -n 1p)" = $A ] || fail "list: $(addresses b1)"
ctl_read b1 $A 0 2097152 | cmp -s - <(head -c 2097152 /dev/zero) || fail "a new block is not all zeroes"
head -c 100000 /dev/urandom >"$T/data"
ctl_write b1 $A 12345 <"$T/data" || fail "brickctl write"
ctl_read b1 $A 12345 100000 | cmp - "$T/data" || fail "data written is not data read"
ctl_read b1 $A 12344 1 | cmp -s - <(head -c 1 /dev/zero) || fail "the byte before was changed"
refused 'beyond|outside|range|invalid|2 MiB' ctl_read b1 $A 2097152 1
refused 'no such|not allocated|not exist' ctl_read b1 0x2000000000000000 0 1
must ctl b1 persist $A
# The other transport sees the same block; so does the next brickd.
other=$(another b1)
brickctl -b "$other" --json list | jq -e '[.. | objects | select(has("count")) | .count | tonumber] | add == 2' >/dev/null || fail "list over $other"
stop_brick b1
brick_serve b1
ctl_read b1 $A 12345 100000 | cmp - "$T/data" || fail "data is gone after a restart"
must ctl b1 free $A
must ctl b1 alloc $A
ctl_read b1 $A 0 2097152 | cmp -s - <(head -c 2097152 /dev/zero) || fail "a block shows what was there before free"
must ctl b1 free $A
must ctl b1 free $B
[ -z "$(addresses b1)" ] || fail "list is not empty: $(ctl b1 list)"

# Full: 64 MiB are 32 blocks.
n=28
must ctl b1 alloc 0x3000000000000000 $n
while ctl b1 alloc "$(printf '0x3%015x' $((n * 2097152)))" >/dev/null 2>"$T/words"; do
	n=$((n + 1))
	[ $n -lt 100 ] || fail "64 MiB never fill"
done
grep -qiE 'no space|full' "$T/words" || fail "a full brick says: $(cat "$T/words")"
[ $n = 32 ] || fail "64 MiB are $n blocks, not 32"
must ctl b1 free 0x3000000000000000 $n

# Enlarged.
stop_brick b1
must brickd --pool "$(pool_of b1)" --grow 128M
refused 'smaller|shrink|large' brickd --pool "$(pool_of b1)" --grow 64M
brick_serve b1
[ "$(ctl b1 --json stat | jq -r '[.. | .capacity? // empty] | first | tonumber')" -ge 64 ] || fail "the brick did not grow: $(ctl b1 --json stat)"

# A second brickd on the pool, damage in it, and what is no pool.
refused 'lock|use|busy|another' brickd --pool "$(pool_of b1)" --listen "unix:$T/second.sock"
stop_brick b1
cp "$(pool_of b1)" "$T/pool/broken"
for at in 0 1048576; do
	head -c 20 /dev/zero | dd of="$T/pool/broken" bs=1 seek=$at conv=notrunc status=none
done
refused "$T/pool/broken" brickd --pool "$T/pool/broken" --listen "unix:$T/second.sock"
head -c 100 "$(pool_of b1)" >"$T/pool/short"
refused "$T/pool/short" brickd --pool "$T/pool/short" --listen "unix:$T/second.sock"
refused "$T/pool/none" brickd --pool "$T/pool/none" --listen "unix:$T/second.sock"
refused 'exist' brickd --pool "$(pool_of b1)" --create 64M
refused 'public|loopback|address' brickd --pool "$(pool_of b1)" --listen tcp://0.0.0.0:0
brick_serve b1
kill -USR1 "${brick_pid[b1]}"
sleep 0.3
alive "${brick_pid[b1]}" || fail "brickd died of SIGUSR1"

# Bytes that are no protocol end nothing but their own connection.
python3 - "${brick_port[b1]}" "$T/b1.sock" <<'END' || fail "garbage"
import os, random, socket, sys
rnd = random.Random(3)
for i in range(60):
    if i % 2:
        s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    else:
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[2])
    try:
        s.sendall(rnd.randbytes(rnd.choice((1, 47, 48, 49, 5000))))
    except OSError:
        pass
    s.close()
END
must ctl b1 stat
stop_brick b1
