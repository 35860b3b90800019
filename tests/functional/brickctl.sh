# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: brickctl: maps that are held, scripts in one session, preempt and revoke, JSON, exit statuses, what persist covers
. "$SRC/tests/functional/lib.sh"

need jq

start_brick b1 64M --lease 2
A=0x1000000000000000
B=0x1000000000200000
E=$(endpoint b1)

# status WANTED COMMAND...: exactly this exit status; the words are left in $words.
status() {
	local wanted=$1 got
	shift
	words=$("$@" 2>&1 </dev/null)
	got=$?
	[ $got = "$wanted" ] || fail "\"$*\" ended with status $got, not $wanted: $words"
}

# script LINE...: the commands in one session; output in $T/out, words in $T/words, the exit status is its own.
script() {
	printf '%s\n' "$@" | brickctl -b "$E" --lanes 2 - >"$T/out" 2>"$T/words"
}

# hold OPTION...: a brickctl map of A that holds until "release"; its process is $holder.
hold() {
	rm -f "$T/hold"
	mkfifo "$T/hold" || fail mkfifo
	brickctl -b "$E" map $A "$@" <"$T/hold" >"$T/held" 2>"$T/holder" &
	holder=$!
	exec 9>"$T/hold"
	soon 30 grep -q $A "$T/held" || fail "map does not hold: $(cat "$T/holder")"
}

# ended WANTED: the holder has ended with that status.
ended() {
	soon 30 gone $holder || fail "brickctl map has not ended"
	wait $holder
	local got=$?
	[ $got = "$1" ] || fail "brickctl map ended with status $got, not $1: $(cat "$T/holder")"
	exec 9>&-
}

# Exit statuses, and errors in JSON.
status 2 brickctl
status 2 brickctl -b nonsense stat
status 2 ctl b1 nonsense
status 2 ctl b1 alloc
status 2 ctl b1 alloc --write $A
status 2 ctl b1 alloc zzz
status 2 ctl b1 alloc $A 0
status 2 ctl b1 unmap $A
status 3 brickctl -b "unix:$T/nobody" stat
status 3 brickctl -b tcp://127.0.0.1:1 --timeout 5 stat
[ "$(brickctl -b "unix:$T/nobody" --json stat 2>/dev/null | jq -r '"\(.errno) \(.code)"')" = "2 ENOENT" ] || fail "no error in JSON"
status 1 ctl b1 free $A
grep -q "^brickctl: $A: " <<<"$words" || fail "the failure does not name the address: $words"
# Limits and refusals: for people the refusals that were, in JSON all of them; SIGUSR1 says the same.
[ "$(ctl b1 --json stat --limits | jq -r '[.limits[0].limit, .limits[0].most, .limits[3].used, (.refused | length), (.refused | map(.count) | add)] | @tsv' | tr '\t' ' ')" = \
	"connections without hello 128 1 17 0" ] || fail "limits in JSON: $(ctl b1 --json stat --limits)"
status 0 ctl b1 stat --limits --sessions
grep -q '^sessions of a peer  *48  *1$' <<<"$words" || fail "no limit of a peer's sessions: $words"
status 2 ctl b1 list --limits
kill -USR1 "${brick_pid[b1]}"
soon 60 grep -q 'statistics: limit: sessions of a peer: [01] of 48' "$T/log/brickd-b1" || fail "SIGUSR1 does not tell the limits"
# Blocks that fail alike are one line, and an entry each in JSON.
must ctl b1 alloc 0x7000000000000000 32
status 1 ctl b1 alloc 0x7000000000000000 1000
[ "$(grep -c 'alloc: exists' <<<"$words") $(grep -c 'alloc: no space' <<<"$words")" = "1 1" ] ||
	fail "a line for each block: $(head -n 3 <<<"$words")"
grep -q '^brickctl: 0x7000000000000000 and 31 blocks behind it: alloc: exists' <<<"$words" || fail "which blocks? $words"
grep -q '^brickctl: 0x7000000004000000 and 967 blocks behind it: alloc: no space' <<<"$words" || fail "which blocks? $words"
codes=$(ctl b1 --json alloc 0x7000000000000000 1000 2>/dev/null |
	jq -r '[.entries[].code] | group_by(.) | map("\(.[0]) \(length)") | join(" ")')
[ "$codes" = "EEXIST 32 ENOSPC 968" ] || fail "the entries in JSON: $codes"
must ctl b1 free 0x7000000000000000 32
status 0 ctl b1 alloc $A 2
status 1 ctl b1 --json alloc $A 3
[ "$(ctl b1 --json alloc $A 4 2>/dev/null | jq -c '[.entries[] | [.ok, .errno]]')" = '[[false,17],[false,17],[false,17],[true,null]]' ] ||
	fail "entries of a batch in JSON"
[ "$(used_blocks)" = 4 ] || fail "blocks: $(ctl b1 list)"
must ctl b1 free 0x1000000000400000 2
[ "$(addresses b1)" = "$A"$'\n'"$B" ] || fail "list: $(ctl b1 list)"
[ "$(ctl b1 --json list $B | jq -c '[.extents[].start]')" = "[\"$B\"]" ] || fail "list from an address: $(ctl b1 list $B)"

# More than fits is refused before anything is written.
status 0 ctl b1 write $A --offset 2097148 --data 41424344
head -c 5 /dev/zero | ctl b1 write $A --offset 2097148 2>"$T/words" && fail "a write beyond the block"
grep -qi 'more than' "$T/words" || fail "a write beyond the block says: $(cat "$T/words")"
[ "$(ctl b1 read $A --offset 2097148)" = ABCD ] || fail "a refused write has changed the block"
[ "$(ctl b1 --json read 0x10000000001ffffd --length 2 | jq -r .data)" = 4243 ] || fail "an address inside a block"
must ctl b1 read $A --length 4096 --file "$T/file"
[ "$(stat -c %s "$T/file")" = 4096 ] || fail "read --file"

# A map is held until standard input ends; others are kept out, and are told who it is.
hold --exclusive
[ "$(ctl b1 --json who $A | jq -c '[.sessions[] | [.mode, .pid]]')" = "[[\"exclusive\",$holder]]" ] || fail "who: $(ctl b1 who $A)"
status 1 ctl b1 read $A --length 1
grep -qi 'another session' <<<"$words" || fail "a block in use: $words"
status 1 ctl b1 free $A
# ... longer than its lease, because it says that it lives
sleep 3
status 1 ctl b1 write $A --exclusive --data 00
exec 9>&-
ended 0
[ "$(ctl b1 --json who $A | jq '.sessions | length')" = 0 ] || fail "the map did not end with its holder"
hold
status 0 ctl b1 read $A --length 1 --hex
kill -INT $holder
ended 0

# Taking a block away by force: over a network the holder's session dies; a local one is its process.
if [ "$TRANSPORT" != unix ]; then
	hold --write
	must ctl b1 write $A --exclusive --preempt --data 5a
	ended 1
	hold --write
	must ctl b1 revoke "$(ctl b1 --json who $A | jq '.sessions[0].session')"
	ended 1
	grep -qi 'lost\|revoked' "$T/holder" || fail "a revoked session says: $(cat "$T/holder")"
else
	hold --write
	status 1 ctl b1 write $A --exclusive --preempt --data 5a
	refused 'process' brickctl -b "$E" revoke "$(ctl b1 --json who $A | jq '.sessions[0].session')"
	kill -9 $holder
	ended 137 2>/dev/null
	soon 30 ctl b1 write $A --exclusive --data 5a || fail "the map outlives its process"
fi
status 1 ctl b1 revoke 999999

# A script: one session, its maps stay from line to line, a failure does not end it.
script '# a comment' '' "map $A --write" "write $A --data 68656c6c6f" "read $A --length 5 --file $T/file" "persist $A 5" \
	"unmap $A --clean" || fail "script: $(cat "$T/words")"
[ "$(cat "$T/file")" = hello ] || fail "a script reads something else than it wrote"
script "map $A --exclusive" "free $B" "free $B" "nonsense" "unmap $A"
[ $? = 2 ] || fail "a script with a bad line: status, $(cat "$T/words")"
grep -q "^$A .*unmapped" "$T/out" || fail "the script ended at its bad line"
script "map $A --write" "map $A --exclusive" && fail "stronger flags were granted"
printf 'map %s --write\nstat --sessions\nunmap %s\nfree %s\n' $A $A $B |
	brickctl -b "$E" --json - 2>/dev/null | jq -c .call | tr '\n' ' ' | grep -qx '"map" "stat" "unmap" "free" ' || fail "JSON of a script"
status 2 ctl b1 lane 1
must ctl b1 free $A
stop_brick b1

# What persist covers is what was written before it on the same lane; shown by a brick that loses everything else.
if [ "$TRANSPORT" != unix ]; then
	start_brick b2 64M --fault
	E=$(endpoint b2)
	mkfifo "$T/script" || fail mkfifo
	brickctl -b "$E" --lanes 2 - <"$T/script" >"$T/out" 2>"$T/words" &
	holder=$!
	exec 9>"$T/script"
	printf '%s\n' "alloc $A" "map $A --write" "lane 1" "write $A --data 31" "persist $A 1" \
		"write $A --offset 4096 --data 32" "lane 0" "persist $A 8192" "write $A --offset 8192 --data 33" "list" >&9
	soon 30 grep -q extent "$T/out" || fail "script: $(cat "$T/out" "$T/words")"
	kill9_brick b2
	soon 30 gone $holder || fail "brickctl outlives its brick"
	wait $holder
	[ $? = 1 ] || fail "a lost session: status, $(cat "$T/words")"
	exec 9>&-
	brick_serve b2
	# Over rdma the brick does not see which lane wrote: there a persist covers what others wrote in its range as well.
	for at in 0:31 $([ "$TRANSPORT" = rdma ] || echo 4096:00) 8192:00; do
		[ "$(ctl b2 --json read $A --offset "${at%:*}" --length 1 | jq -r .data)" = "${at#*:}" ] ||
			fail "after the crash, at ${at%:*}: $(ctl b2 read $A --offset "${at%:*}" --length 1 --hex), not ${at#*:}"
	done
	stop_brick b2
fi
