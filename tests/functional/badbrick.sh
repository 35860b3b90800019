# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: a brick that lies, alters, cuts or keeps back what it says: every program comes to an end, names it, crashes never, and nothing on the bricks is harmed
#
# Of the bricks the last one is reached through tests/functional/badbrick, which alters one thing of what the brick says, in
# one phase: mkfs, mount, the use of the mount and umount, or fsck.  Afterwards the filesystem is mounted without it.
# BAD_CASES="N..." runs only those; BAD_SEED chooses other places; badbrick --cases tcp prints the list.
. "$SRC/tests/functional/lib.sh"

need python3 jq

LIMIT_S=120	# of one program, which is generous: the longest wait for 2 s at every step
WORKERS=$(sized 8 4)
seed=${BAD_SEED:-1}
badbrick=$BUILD/tests/functional/badbrick
[ ! -x "$BUILD/tests/functional/.libs/badbrick" ] || badbrick=$BUILD/tests/functional/.libs/badbrick
[ -x "$badbrick" ] || skip "$badbrick is not built (make check TESTS=)"

# Someone at work on the mount, and what must be there.
cat >"$T/user.py" <<'PY'
import errno, os, random, sys
what, root, notes = sys.argv[1:4]
content = len(sys.argv) > 4 and sys.argv[4] == "content"     # bytes of files may be wrong
FILES = {"small": 700, "page": 4096, "packed": 30000, "large": (5 << 20) + 77, "dir/one": 12, "dir/two": 9000, "dir/deep/three": 100000}
FINE = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENOSPC, errno.ENOMEM)
errors = []

def data(name, size):
    return random.Random(name).randbytes(size)

def wrong(text):
    print("WRONG:", text)
    sys.exit(3)

def attempt(name, call, *args):
    try:
        return True, call(*args)
    except OSError as e:
        if e.errno not in FINE:
            wrong(f"{name}: {e}")
        errors.append(f"{name}: {errno.errorcode[e.errno]}")
        return False, None

def write(path, blob):
    with open(path, "wb", buffering=0) as f:
        f.write(blob)
        os.fsync(f.fileno())

def read(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()

def fsync_dir(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

def tree():
    found = {}
    def fail(e):
        raise e
    for top, dirs, files in os.walk(root, onerror=fail):
        for name in files:
            path = os.path.join(top, name)
            found[os.path.relpath(path, root)] = os.stat(path).st_size
    return found

def verify(extra):
    good, found = attempt("ls", tree)
    if good:
        mine = {n: s for n, s in found.items() if not n.startswith(("new", "lost+found"))}
        if mine != FILES:
            wrong(f"names and sizes: {mine}")
    for name, size in {**FILES, **extra}.items():
        good, blob = attempt("read " + name, read, os.path.join(root, name))
        if good and blob != data(name, size) and not (content and what == "use"):
            wrong(f"content of {name}")

if what == "fill":
    os.makedirs(root + "/dir/deep")
    for name, size in FILES.items():
        write(os.path.join(root, name), data(name, size))
elif what == "use":
    verify({})
    for name, size in {"new-small": 500, "new-packed": 20000, "new-large": 3 << 20}.items():
        # What is noted has been fsynced.
        if attempt("write " + name, write, root + "/" + name + ".part", data(name, size))[0] and \
           attempt("rename " + name, os.rename, root + "/" + name + ".part", root + "/" + name)[0] and \
           attempt("fsync", fsync_dir, root)[0]:
            with open(notes, "a") as f:
                print(name, size, file=f)
    if attempt("write junk", write, root + "/new-junk", data("junk", 3 << 20))[0]:
        attempt("unlink junk", os.unlink, root + "/new-junk")
        attempt("fsync", fsync_dir, root)
elif what == "verify":
    kept = {}
    if os.path.exists(notes):
        for line in open(notes):
            name, size = line.split()
            kept[name] = int(size)
    if content:     # what was moved from one place to another may have been altered on the way
        kept = {}
    verify(kept)
    if not errors:
        for name in os.listdir(root):
            if name.startswith("new"):
                os.unlink(os.path.join(root, name))
for e in errors:
    print("error:", e)
sys.exit(1 if errors else 0)
PY

# One worker has bricks of its own; its words are in W/words, what it found in W/verdict.
declare -A case_name=([-1]=fill) case_phase=([-1]=-) case_often=([-1]=-)
declare -A case_timeo case_words
count=0
while read -r n name phase often timeo words; do
	count=$((n + 1))
	case_name[$n]=$name case_phase[$n]=$phase case_often[$n]=$often case_timeo[$n]=$timeo case_words[$n]=",$words,"
done < <("$badbrick" --cases "$TRANSPORT" --seed "$seed")
[ $count -gt 50 ] || fail "badbrick --cases $TRANSPORT prints $count cases"

# run LOG COMMAND...: sets status; a command that does not end is the worst that there is.
run() {
	local log=$1
	shift
	timeout -k 5 $LIMIT_S "$@" >"$log" 2>&1 </dev/null
	status=$?
	case $status in
	124 | 137) bad "\"$*\" hangs" ;;
	esac
	[ $status -lt 128 ] || bad "\"$*\" ended with status $status"
}

bad() {
	{
		echo "case $n (${case_name[$n]}, in ${case_phase[$n]}, ${case_often[$n]}): $*"
		for file in "$W"/out/*; do
			[ -s "$file" ] && sed "s|^|    ${file##*/}: |" "$file" | tail -n 12
		done
	} >>"$W/bad"
	failed=1
}

# names_it LOG: as the one to blame. That it is one of the bricks is no news.
names_it() {
	grep -vE ': persistence |mounted on |mounted read-only$|^filesystem |^brick  ' "$1" | sed "s|$both||g" | grep -qF -e "$name_of_it" -e "$uuid_of_it"
}

# proxy CASE: in front of the bad brick, at the endpoint where it always is.
proxy() {
	rm -f "$W/ready"
	"$badbrick" --case "$1" --seed "$seed" --listen "$bad_listens" --to "$target" --phase "$W/phase" >"$W/ready" 2>>"$W/out/badbrick" &
	proxy=$!
	soon 60 grep -q ready: "$W/ready" || bad "the proxy does not serve"
}

proxy_end() {
	kill $proxy
	wait $proxy 2>/dev/null
}

# bad_mount NAME [TIMEO]: with its words in out/NAME; sets mounted and, if not, status.
bad_mount() {
	local end=$((SECONDS + LIMIT_S)) words=$W/out/$1
	: >"$words"
	mounted=
	brickfs "$both" "$W/m" -f -o timeo="${2:-60}",wait=20 >"$words" 2>&1 </dev/null &
	mount=$!
	until grep -q ' mounted on ' "$words"; do
		if ! kill -0 $mount 2>/dev/null; then
			wait $mount
			status=$?
			[ $status -lt 128 ] || bad "brickfs ended with status $status"
			return
		fi
		if [ $SECONDS -ge $end ]; then
			bad "brickfs neither mounts nor ends"
			kill -9 $mount
			return
		fi
		sleep 0.02
	done
	mounted=1
}

bad_umount() {
	local end=$((SECONDS + LIMIT_S))
	timeout -k 5 $LIMIT_S umount "$W/m" >>"$W/out/umount" 2>&1 || umount -l "$W/m" 2>/dev/null
	until ! kill -0 $mount 2>/dev/null || [ $SECONDS -ge $end ]; do
		sleep 0.02
	done
	! kill -0 $mount 2>/dev/null || {
		bad "brickfs does not end after umount"
		kill -9 $mount
	}
	wait $mount
	status=$?
	[ $status -lt 128 ] || bad "brickfs ended with status $status after umount"
}

fill() {
	proxy -1
	run "$W/out/mkfs" mkfs.brickfs -q -f "$both"
	[ $status = 0 ] || bad "mkfs over a good brick ended with status $status"
	bad_mount good
	[ -n "$mounted" ] || bad "no mount of a good brick"
	run "$W/out/fill" python3 -IS "$T/user.py" fill "$W/m" "$W/notes"
	[ $status = 0 ] || bad "cannot fill the filesystem"
	bad_umount
	proxy_end
}

# only_leaks: of fsck's problems none is another one. Those are what an operation leaves that failed.
only_leaks() {
	grep -q ': leak: ' "$W/out/fsck" && ! grep -F "$both: " "$W/out/fsck" | grep -vE ': leak: | inodes, | left: '
}

# mkfs over the bad brick: a filesystem, or an error that says why not.
make_case() {
	run "$W/out/mkfs" mkfs.brickfs -f --timeo "$timeo" "$both"
	if [ $status != 0 ]; then
		names_it "$W/out/mkfs" || bad "mkfs fails and does not name the brick"
	else
		[[ $words != *,refused,* ]] || bad "mkfs should have been refused"
		proxy_end
		proxy -1
		run "$W/out/fsck" fsck.brickfs -n "$both"
		[ $status = 0 ] || { [[ $words = *,leaks,* ]] && only_leaks; } || bad "mkfs says that all is well; fsck does not"
	fi
}

use_case() {
	bad_mount brickfs "$timeo"
	if [ -z "$mounted" ]; then
		errors=1
		names_it "$W/out/brickfs" || { [[ $words = *,damaged,* ]] && grep -qE 'lost|damaged|missing' "$W/out/brickfs"; } ||
			bad "the mount fails and does not name the brick"
	else
		if [ "$phase" = mount ] && [[ $words = *,refused,* ]]; then
			bad "the mount should have been refused"
		fi
		if [ "$phase" = mount ] && [[ $words = *,damaged,* ]]; then
			grep -qE 'damaged|lost' "$W/out/brickfs" || bad "the mount says nothing of damage"
		fi
		echo 2 >"$W/phase"
		run "$W/out/use" python3 -IS "$T/user.py" use "$W/m" "$W/notes" $content
		case $status in
		0) ;;
		1)
			errors=1
			[[ $words = *,quiet,* ]] || [[ $words = *,damaged,* ]] || names_it "$W/out/brickfs" || bad "operations fail, and the log does not name the brick"
			;;
		*) bad "the user of the mount saw what is not so" ;;
		esac
		bad_umount
		if [ $status != 0 ]; then
			errors=1
			[[ $words = *,quiet,* ]] || names_it "$W/out/brickfs" || bad "umount fails, and the log does not name the brick"
		fi
		[[ $words != *,survives,* ]] || [ -z "$errors" ] || bad "this should have been mended, and nobody should have seen an error"
	fi
	echo 3 >"$W/phase"
	run "$W/out/fsck" fsck.brickfs -n --timeo "$timeo" "$both"
	if [ $status != 0 ]; then
		[[ $words = *,quiet,* ]] || names_it "$W/out/fsck" || { [ "$phase" != check ] && only_leaks; } ||
			{ [[ $words = *,damaged,* ]] && grep -qE 'lost|missing' "$W/out/fsck"; } || bad "fsck ends with status $status and does not name the brick"
	elif [ "$phase" = check ] && [[ $words = *,refused,* ]]; then
		bad "fsck should have found something"
	fi
}

# The brick itself has done nothing wrong: with its own words again, all is as it should be.
intact() {
	proxy_end
	proxy -1
	bad_mount good
	if [ -z "$mounted" ]; then
		bad "the good brick does not mount"
		return
	fi
	run "$W/out/verify" python3 -IS "$T/user.py" verify "$W/m" "$W/notes" $content
	[ $status = 0 ] || bad "it is not intact"
	bad_umount
	[ $status = 0 ] || bad "umount over the good brick ended with status $status"
	run "$W/out/fsck" fsck.brickfs -n "$both"
	[ $status = 0 ] || bad "fsck -n over the good brick ended with status $status"
}

one_case() {
	local phase=${case_phase[$n]} timeo=${case_timeo[$n]} words=${case_words[$n]} content='' errors=''
	failed=
	rm -rf "$W/out" "$W/notes"
	mkdir "$W/out"
	[[ $words != *,content,* ]] || content=content
	[ "$phase" = make ] && echo 0 >"$W/phase" || echo 1 >"$W/phase"
	proxy "$n"
	if [ "$phase" = make ]; then
		make_case
	else
		use_case
	fi
	grep -q '^altered:' "$W/out/badbrick" || bad "the proxy has altered nothing"
	[ "$phase" = make ] || [[ $words = *,writes,* ]] || intact
	proxy_end
	grep -aniE '\bBUG\b|assert|sanitizer|LeakSanitizer|runtime error:' "$W"/out/* >"$W/grep" && bad "what a program said: $(head -n 3 "$W/grep")"
	if [ "$phase" = make ] || [[ $words = *,writes,* ]] || [ -n "$failed" ]; then
		fill
	fi
}

worker() {
	local i
	W=$T/w$1 EP_FIRST=
	mkdir -p "$W/m" "$W/out"
	for ((i = 1; i <= BRICKS; i++)); do
		start_brick "w$1b$i" $((96 / BRICKS))M
		[ $i = "$BRICKS" ] || EP_FIRST+=${EP_FIRST:+,}$(endpoint "w$1b$i")
	done
	target=$(endpoint "w$1b$BRICKS")
	uuid_of_it=$(ctl "w$1b$BRICKS" --json stat | jq -r '[.. | .uuid? // empty] | first')
	bad_listens=tcp://127.0.0.1:0
	[ "$TRANSPORT" != unix ] || bad_listens=unix:$W/bad.sock
	n=-1 failed=
	echo 0 >"$W/phase"
	proxy -1
	name_of_it=$(sed -n 's/^ready: //p' "$W/ready")
	bad_listens=$name_of_it
	both=${EP_FIRST:+$EP_FIRST,}$name_of_it
	proxy_end
	fill
	while [ ! -e "$W/bad" ] || [ "$(wc -l <"$W/bad")" -lt 400 ]; do
		# The next case that nobody has.
		# shellcheck disable=SC2016
		n=$(flock "$T/next.lock" sh -c 'read -r first rest <"$0"; echo "$rest" >"$0"; echo "$first"' "$T/next")
		[ -n "$n" ] || break
		one_case
		echo "$n" >>"$T/done"
		[ -z "${BAD_TIMES-}" ] || echo "$n ${case_name[$n]} ${case_phase[$n]} at $SECONDS s"
	done
	for ((i = 1; i <= BRICKS; i++)); do
		stop_brick "w$1b$i"
	done
}

cases=${BAD_CASES:-$(seq 0 $((count - 1)))}
# Those that take long come first: they wait beside the others.
cases=$(for n in $cases; do
	[[ ${case_words[$n]} = *,slow,* ]] && echo "0 $n" || echo "1 $n"
done | sort -s -n -k 1,1 | cut -d ' ' -f 2 | tr '\n' ' ')
echo "$cases" >"$T/next"
: >"$T/done"
pids=()
for ((w = 0; w < WORKERS; w++)); do
	(worker $w) &
	pids+=($!)
done
for pid in "${pids[@]}"; do
	wait "$pid" || fail "a worker ended with status $?"
done
if cat "$T"/w*/bad 2>/dev/null | head -n 300 | grep .; then
	fail "$(cat "$T"/w*/bad | grep -c '^case') complaints; BAD_CASES=N $TEST-$TRANSPORT-$BRICKS runs one case"
fi
[ "$(wc -l <"$T/done")" = "$(wc -w <<<"$cases")" ] || fail "only $(wc -l <"$T/done") of $(wc -w <<<"$cases") cases were run"
say "$(wc -l <"$T/done") cases, seed $seed, brick $BRICKS of $BRICKS is the bad one"
