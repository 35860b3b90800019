# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: fsck.brickfs on real bricks: every kind of damage is found, repaired, and clean afterwards, nothing is lost that was not named; asked, -p, -C, --json, a lost brick
. "$SRC/tests/functional/lib.sh"

need python3 jq
damage=$BUILD/tests/damage/damage
[ -x "$damage" ] || skip "$damage is not built; make check builds it"

digest() {
	local i addr
	for ((i = 1; i <= BRICKS; i++)); do
		for addr in $(addresses b$i); do
			echo "b$i $addr $(ctl_read b$i "$addr" 0 2097152 | sha256sum)"
		done
	done
}

# fsck STATUS OPTION...: it has to end with that status; what it says is in $T/words.
fsck() {
	local want=$1 status
	shift
	fsck.brickfs "$@" "$EP" >"$T/words" 2>&1
	status=$?
	[ $status = "$want" ] || fail "fsck.brickfs $* ended with status $status instead of $want: $(tail -n 20 "$T/words")"
}

tell() {
	grep -qE -- "$1" "$T/words" || fail "fsck.brickfs does not say $1: $(tail -n 20 "$T/words")"
}

# A tree with one of everything, in a directory of its own.
fill() {
	local d=$M/$1 i
	mkdir -p "$d/deep/deeper" || fail "mkdir $d"
	for i in 0 1 300 5000 70000; do
		head -c $i /dev/urandom >"$d/file-$i"
		head -c $i /dev/urandom >"$d/deep/file-$i"
	done
	head -c 9000000 /dev/urandom >"$d/dense"
	truncate -s 60M "$d/sparse" && head -c 100000 /dev/urandom | dd of="$d/sparse" bs=1M seek=20 conv=notrunc status=none
	head -c 100000 /dev/urandom | dd of="$d/sparse" bs=1M seek=50 conv=notrunc status=none
	ln "$d/file-5000" "$d/deep/link"
	ln -s file-300 "$d/symlink"
	python3 -c "import os, sys; os.setxattr(sys.argv[1], \"user.colour\", b\"blue\")" "$d/file-300" || fail "no extended attribute"
}

cat >"$T/keep.py" <<'END'
"""note MOUNT >list: what is there; check MOUNT list touched words: what was not touched, nor named, is as it was."""
import hashlib, os, re, stat, sys

def look(top):
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                content = hashlib.sha256(open(path, "rb").read()).hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            else:
                content = "-"
            yield st.st_ino, f"{st.st_mode:o}", content, path[len(top):]

top = sys.argv[2]
if sys.argv[1] == "note":
    for line in look(top):
        print(*line)
    sys.exit()
touched = set(open(sys.argv[4]).read().split())
words = open(sys.argv[5]).read()
named = set(re.findall(r"(?:inodes?|directory|symbolic link) (\d+)", words))
now = {line[3]: tuple(str(x) for x in line) for line in look(top)}
inode = {}
lost = 0
for line in open(sys.argv[3]):
    ino, mode, content, path = line.rstrip("\n").split(" ", 3)
    inode[path] = ino
    if now.get(path) == (ino, mode, content, path):
        continue
    above, excused = path, False
    while above and above != "/":
        excused |= inode.get(above) in touched | named or f"({above})" in words or f" {above} leads" in words
        above = os.path.dirname(above)
    if not excused and "1" not in touched:
        print(f"{path} (inode {ino}) was not named, and is {now.get(path)} instead of {(ino, mode, content)}")
        lost += 1
sys.exit(1 if lost else 0)
END

start_bricks $((BRICKS * 320))
make_fs
mount_fs
fill first
umount_fs
fsck 0 -n
tell 'clean'

# ---- each kind of damage
seed=1
# All kinds with FULL; the unit tests have them all.
few=" ${KINDS-torn-tail super-both super-all log-hole log-zeroed checkpoint-bit checkpoint-gone leak adrift twin packed-gone dense-gone sparse-gone ranges-overlap no-root} "
while read -r kind code bricks; do
	[ "$bricks" -le "$BRICKS" ] || continue
	[ -n "$FULL" ] || [[ $few == *" $kind "* ]] || continue
	mount_fs
	rm -rf "$M/round"
	fill round
	# A log of some length, and of more than one mount.
	umount_fs
	mount_fs
	for i in 1 2 3; do
		echo $i >"$M/round/later$i"
		sync "$M/round/later$i"
	done
	python3 "$T/keep.py" note "$M" >"$T/before"
	kill9_mount
	"$damage" "$kind" $seed "$EP" >"$T/did" 2>&1
	status=$?
	seed=$((seed + 1))
	if [ $status = 77 ]; then
		say "$kind: nothing of that kind here"
		continue
	fi
	[ $status = 0 ] || fail "damage $kind: $(cat "$T/did")"
	sed -n 's/^touched://p' "$T/did" >"$T/touched"
	digest >"$T/digest"
	fsck.brickfs -n "$EP" >"$T/words" 2>&1
	status=$?
	digest | diff "$T/digest" - >/dev/null || fail "$kind: fsck.brickfs -n changed something"
	case $code in
	-) [ $status = 4 ] || [ $status = 0 ] || fail "$kind: fsck.brickfs -n: $status: $(tail -n 20 "$T/words")" ;;
	*) [ $status = 4 ] || fail "$kind: fsck.brickfs -n: $status: $(tail -n 20 "$T/words")" && tell ": $code: " ;;
	esac
	if [ $status = 4 ]; then
		fsck 1 -y
		tell 'corrected'
	fi
	cp "$T/words" "$T/repair"
	fsck 0 -n
	mount_fs
	python3 "$T/keep.py" check "$M" "$T/before" "$T/touched" "$T/repair" || fail "$kind: $(cat "$T/did" "$T/repair")"
	find "$M" -type f -exec cat {} + >/dev/null || fail "$kind: a file cannot be read after the repair"
	[ "$(touch "$M/written" && echo yes)" = yes ] || fail "$kind: nothing can be written after the repair"
	umount_fs
	fsck_clean
	say "$kind: $(grep -c ": " "$T/repair") lines; repaired"
done < <("$damage" --list)

# ---- by brickctl: one copy of a superblock
mount_fs
umount_fs
printf 'nonsense' | ctl_write b1 $superblock 4200 || fail "brickctl write"
fsck 4 -n
tell 'super-copy'
fsck 1 -p
fsck 0 -n

# ---- -p keeps its hands off what is not safe, and says so
"$damage" link-count 3 "$EP" >/dev/null || fail "damage link-count"
"$damage" entry-nowhere 3 "$EP" >/dev/null || fail "damage entry-nowhere"
digest >"$T/digest"
fsck 4 -p
tell 'nothing was changed'
digest | diff "$T/digest" - >/dev/null || fail "-p changed something"

# ---- asked on a terminal
cat >"$T/ask.py" <<'END'
"""ask.py ANSWERS COMMAND...: runs it on a terminal; each question gets the next answer. Exit status: the command's."""
import os, pty, select, sys
answers, command = sys.argv[1], sys.argv[2:]
pid, fd = pty.fork()
if not pid:
    os.execvp(command[0], command)
text = b""
asked = 0
while True:
    if not select.select([fd], [], [], 120)[0]:
        sys.exit("it says nothing more: " + text.decode())
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    text += data
    while text.count(b"yes to all) ") > asked:
        os.write(fd, (answers[asked] if asked < len(answers) else answers[-1]).encode() + b"\n")
        asked += 1
print(text.decode())
print(f"questions: {asked}")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
ask() {
	local want=$1 status
	shift
	python3 "$T/ask.py" "$@" "$EP" >"$T/words" 2>&1
	status=$?
	[ $status = "$want" ] || fail "asked, with answers $1, it ended with status $status instead of $want: $(tail -n 30 "$T/words")"
}
ask 4 yn fsck.brickfs
tell 'Repair: '
tell 'questions: 2'
tell 'nothing was changed'
digest | diff "$T/digest" - >/dev/null || fail "an answer of no, and something was changed"
ask 1 a fsck.brickfs -C0
tell 'questions: 1'
tell 'corrected'
fsck 0 -n
refused 'terminal' fsck.brickfs -r "$EP"

# ---- progress as lines, JSON, wrong usage
fsck.brickfs -n -C9 "$EP" 9>"$T/progress" >/dev/null || fail "fsck.brickfs -n -C9"
grep -qE '^[0-9]+ [0-9]+ [0-9]+ ' "$T/progress" || fail "no progress in: $(cat "$T/progress")"
"$damage" unreachable 9 "$EP" >/dev/null || fail "damage unreachable"
fsck.brickfs -n --json "$EP" >"$T/json"
[ $? = 4 ] || fail "--json: $(cat "$T/json")"
[ "$(jq -r '.problems[0].code, .problems[0].safe, .status' "$T/json" | tr '\n' ' ')" = 'unreachable true 4 ' ] || fail "--json: $(cat "$T/json")"
fsck.brickfs -p --json "$EP" >"$T/json"
[ $? = 1 ] || fail "-p --json: $(cat "$T/json")"
[ "$(jq -r .repaired "$T/json")" = true ] || fail "-p --json: $(cat "$T/json")"
fsck.brickfs -n -y "$EP" 2>/dev/null
[ $? = 16 ] || fail "-n -y is no wrong usage"
fsck.brickfs -C77 "$EP" 2>/dev/null
[ $? = 16 ] || fail "-C77 is no wrong usage"

# ---- fsck(8) finds it by a line in fstab
mkdir "$T/sbin"
ln -s "$(command -v fsck.brickfs)" "$T/sbin/fsck.fuse.brickfs"
echo "$EP $M fuse.brickfs noauto 0 2" >"$T/fstab"
system_fsck() {
	env PATH="$T/sbin:$PATH" FSTAB_FILE="$T/fstab" fsck "$@" >"$T/words" 2>&1
}
system_fsck "$M" -- -n || fail "fsck $M: $(cat "$T/words")"
tell 'clean'
system_fsck -A || fail "fsck -A: $(cat "$T/words")"
tell 'clean'
"$damage" unreachable 11 "$EP" >/dev/null || fail "damage unreachable"
system_fsck "$M" -- -p
[ $? = 1 ] || fail "fsck $M -- -p: $(cat "$T/words")"

# ---- in use: refused, repair or not
mount_fs
refused 'in use|mounted|holds|busy' fsck.brickfs -y "$EP"
umount_fs

# ---- a brick that is gone for good
if [ "$BRICKS" -gt 1 ]; then
	last=b$BRICKS
	uuid=$(ctl $last --json stat | jq -r '[.. | .uuid? // empty] | first')
	all=$EP
	EP=${EP%,*}
	stop_brick $last
	fsck 8 -y
	tell 'lost-brick'
	fsck 16 -y --lost-brick 12345
	fsck 8 -n --lost-brick 00000000-0000-0000-0000-000000000001
	tell 'no brick'
	fsck 4 -n --lost-brick "$uuid"
	tell 'brick-lost'
	tell '(blocks-lost|pages-lost|checkpoint|log-)'
	fsck 4 -p --lost-brick "$uuid"
	fsck 1 -y --lost-brick "$uuid"
	BRICKS=$((BRICKS - 1))
	fsck 0 -n
	mount_fs
	find "$M" -type f -exec cat {} + >/dev/null || fail "a file cannot be read after a brick was given up"
	rm -rf "${M:?}"/* && echo new >"$M/new" || fail "the rest cannot be used"
	umount_fs
	fsck_clean
	brick_serve $last
	EP=$all
	refused 'listed|bricks were named|does not list|has [0-9]+' fsck.brickfs -n "$EP"
fi
exit 0
