# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
#
# user.sh - somebody who works on a mount, for the tests that take its bricks away meanwhile: sourced behind lib.sh.
#
# He writes files, overwrites a record in a big one, fsyncs, notes what was acknowledged, and reads back, past the kernel's
# pages, what he wrote before: a byte that is not his own is the end, and so is an error.
#
#	user_start DIR		begins, in the background
#	user_works N		waits until N more rounds were acknowledged
#	user_stop		lets him finish; he must have met no error
#	user_ends PATTERN	waits until he has met an error, whose name matches
#	user_verify DIR		all that was ever acknowledged is there

cat >"$T/user.py" <<'END_OF_USER'
import errno, os, random, sys

what, root, notes, stop = sys.argv[1:5]
RECORD = 8192


def blob(seed, size):
    return random.Random(seed).randbytes(size)


def size_of(n):
    return (300, 5000, 60000, 400000, 3000000)[n % 5] + n


def record(n):
    return (b"%d " % n * RECORD)[:RECORD]


def write(path, data, offset=0, flags=os.O_CREAT | os.O_TRUNC):
    fd = os.open(path, os.O_RDWR | flags, 0o644)
    try:
        while data:
            done = os.pwrite(fd, data, offset)
            data, offset = data[done:], offset + done
        os.fsync(fd)
    finally:
        os.close(fd)


def read(path, offset=0, size=None):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got, size = b"", os.fstat(fd).st_size if size is None else size
        while len(got) < size:
            piece = os.pread(fd, size - len(got), offset + len(got))
            if not piece:
                break
            got += piece
        return got
    finally:
        os.close(fd)


def same(what, got, wanted):
    if got != wanted:
        first = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
        print(f"WRONG: {what}: {len(got)} bytes, {len(wanted)} wanted, the first difference at {first}", flush=True)
        sys.exit(3)


def noted():
    try:
        return [int(line) for line in open(notes)]
    except FileNotFoundError:
        return []


def check(n):
    same(f"file {n}", read(f"{root}/file-{n}"), blob(n, size_of(n)))


def work():
    done = noted()
    n = done[-1] + 1 if done else 1
    rnd = random.Random(n)
    live = [d for d in done if d > done[-1] - 20] if done else []
    with open(notes, "a") as log:
        while not os.path.exists(stop):
            write(f"{root}/part", blob(n, size_of(n)))
            os.rename(f"{root}/part", f"{root}/file-{n}")
            fd = os.open(root, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            write(f"{root}/records", record(n), n % 500 * RECORD, os.O_CREAT)
            # It is acknowledged: from here on it has to be there.
            print(n, file=log, flush=True)
            live.append(n)
            check(rnd.choice(live))
            if len(live) > 20:
                old = live.pop(0)
                os.unlink(f"{root}/file-{old}")
            n += 1
    print("ended in order", flush=True)


def verify():
    done = noted()
    for n in done[-20:]:
        check(n)
    for n in done[-500:]:
        same(f"record {n}", read(f"{root}/records", n % 500 * RECORD, RECORD), record(n))
    print(len(done), "rounds verified")


try:
    work() if what == "work" else verify()
except OSError as e:
    print("error:", errno.errorcode[e.errno], e, flush=True)
    sys.exit(1)
END_OF_USER

user_notes=$T/state/user-notes user_stop_file=$T/state/user-stop user_words=$T/state/user-words
: >"$user_notes"

user_rounds() {
	wc -l <"$user_notes"
}

user_start() {
	rm -f "$user_stop_file"
	python3 "$T/user.py" work "$1" "$user_notes" "$user_stop_file" >"$user_words" 2>&1 &
	user=$!
}

user_works() {
	local until=$(($(user_rounds) + $1))
	# shellcheck disable=SC2317
	enough() {
		gone $user || [ "$(user_rounds)" -ge $until ]
	}
	soon 180 enough || fail "the user makes no progress (${1} rounds): $(cat "$user_words")"
	alive $user || fail "the user ended: $(cat "$user_words")"
}

user_stop() {
	: >"$user_stop_file"
	soon 180 gone $user || fail "the user hangs"
	wait $user || fail "the user met an error: $(cat "$user_words")"
	say "the user: $(user_rounds) rounds, no error"
}

user_ends() {
	soon 180 gone $user || fail "the user hangs"
	wait $user
	[ $? = 1 ] && grep -qE "^error: ($1) " "$user_words" || fail "the user should have met $1: $(cat "$user_words")"
	say "the user: $(user_rounds) rounds, then $(cat "$user_words")"
}

user_verify() {
	local words
	words=$(python3 "$T/user.py" verify "$1" "$user_notes" - 2>&1) || fail "what was acknowledged is not there: $words"
	say "the user: $words"
}
