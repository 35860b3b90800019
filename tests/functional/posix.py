#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What POSIX and Linux promise of names, links, modes, times, holes, renames and mappings, tried on a directory.

posix.py DIRECTORY [NAME...]   as root; each case has a directory of its own; runs all, or those whose names are given
posix.py --after DIRECTORY     after a remount: what the cases left behind is as it was

Each case prints one line. Exit status 1 when one failed. On ext4 all pass but inode_numbers, xattrs (large values)
and io_errors (large files), which say what brickfs promises beyond.
"""
import ctypes
import errno
import fcntl
import json
import mmap
import os
import socket
import stat
import sys
import threading
import time
import traceback

REALTIME_COARSE = 5  # CLOCK_REALTIME_COARSE of clock_gettime(2)

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2
KEEP_SIZE, PUNCH_HOLE, COLLAPSE_RANGE, ZERO_RANGE, INSERT_RANGE = 1, 2, 8, 16, 32
MIB = 1 << 20
BLOCK = 2 * MIB
SMALL = bool(os.environ.get("SMALL"))


def many(n):
    """So many, or fewer on a slow machine."""
    return n // 6 if SMALL else n


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e), old)


def fallocate(fd, mode, offset, length):
    if libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def fails(wanted, call, *args, **kw):
    """The call has to fail with one of these errnos."""
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    try:
        call(*args, **kw)
    except OSError as e:
        assert e.errno in wanted, f"{call.__name__}{args}: {errno.errorcode[e.errno]}, wanted {[errno.errorcode[w] for w in wanted]}"
        return
    raise AssertionError(f"{call.__name__}{args} succeeded, wanted {[errno.errorcode[w] for w in wanted]}")


def eq(a, b, what=""):
    if a != b:
        if isinstance(a, bytes) and isinstance(b, bytes):
            where = next((i for i in range(min(len(a), len(b))) if a[i] != b[i]), min(len(a), len(b)))
            raise AssertionError(f"{what}: {len(a)} and {len(b)} bytes differ at {where}: {a[where:where + 8]!r}, wanted {b[where:where + 8]!r}")
        raise AssertionError(f"{what}: {a!r}, wanted {b!r}")


def write(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view):]
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def as_user(uid, gid, call, groups=()):
    """Runs call in a child as that user; a failed assertion or OSError there fails here."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(r)
            os.setgroups(list(groups))
            os.setgid(gid)
            os.setuid(uid)
            call()
            status = 0
        except BaseException:
            os.write(w, traceback.format_exc().encode()[-3000:])
        finally:
            os._exit(status)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        words = f.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"as user {uid}: {words}"


cases = []


def case(f):
    cases.append(f)
    return f


@case
def names():
    """names of 255 bytes work, of 256 are refused; every byte but / and NUL is allowed; case counts"""
    write("n" * 255, b"long")
    eq(read("n" * 255), b"long")
    fails(errno.ENAMETOOLONG, write, "n" * 256)
    fails(errno.ENAMETOOLONG, os.mkdir, "d" * 256)
    fails(errno.ENAMETOOLONG, os.symlink, "x", "s" * 256)
    fails(errno.ENAMETOOLONG, os.rename, "n" * 255, "m" * 256)
    fails(errno.ENAMETOOLONG, os.link, "n" * 255, "m" * 256)
    fails(errno.ENAMETOOLONG, os.stat, "n" * 256)
    raw = bytes(b for b in range(1, 256) if b != ord("/"))
    for part in (raw[:200], raw[200:], b"\xff\xfe", b"-", b" ", b"\n", b"...", b"..x"):
        write(part, part)
        eq(read(part), part)
    eq(len(os.listdir(b".")), 9)
    write("Case", b"1")
    fails(errno.ENOENT, os.stat, "case")
    fails(errno.ENOENT, write, "")


@case
def creation():
    """O_EXCL, O_CREAT over a directory, O_DIRECTORY, O_NOFOLLOW, ENOTDIR, ENOENT, umask"""
    write("f", b"x")
    fails(errno.EEXIST, os.open, "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.mkdir("d")
    fails(errno.EISDIR, os.open, "d", os.O_WRONLY)
    fails(errno.EISDIR, os.open, "d", os.O_WRONLY | os.O_CREAT)
    fails(errno.ENOTDIR, os.open, "f", os.O_RDONLY | os.O_DIRECTORY)
    fails(errno.ENOTDIR, os.open, "f/x", os.O_RDONLY)
    fails(errno.ENOTDIR, os.mkdir, "f/x")
    fails(errno.ENOENT, os.open, "nowhere/x", os.O_CREAT | os.O_WRONLY)
    os.symlink("f", "s")
    fails(errno.ELOOP, os.open, "s", os.O_RDONLY | os.O_NOFOLLOW)
    fails(errno.EEXIST, os.open, "s", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.symlink("made", "dangling")
    write("dangling", b"through a link")
    eq(read("made"), b"through a link")
    old = os.umask(0o027)
    try:
        os.close(os.open("um", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir("umd", 0o777)
    finally:
        os.umask(old)
    eq(stat.S_IMODE(os.stat("um").st_mode), 0o640, "umask of a file")
    eq(stat.S_IMODE(os.stat("umd").st_mode), 0o750, "umask of a directory")
    fails(errno.EEXIST, os.mkdir, "d")
    fails(errno.EEXIST, os.mkdir, "s")
    fails(errno.EEXIST, os.mkfifo, "f")
    fails(errno.EEXIST, os.symlink, "x", "f")
    fd = os.open("f", os.O_RDWR | os.O_TRUNC)
    eq(os.fstat(fd).st_size, 0, "O_TRUNC")
    os.close(fd)


@case
def unlinked_open():
    """a file lives on while it is open, whatever its form, and its space goes when it is closed"""
    for size in (10, 5000, 3 * MIB):
        write("f", b"a" * size)
        fd = os.open("f", os.O_RDWR)
        os.unlink("f")
        fails(errno.ENOENT, os.stat, "f")
        eq(os.fstat(fd).st_nlink, 0, "nlink of an unlinked file")
        eq(os.pread(fd, size, 0), b"a" * size)
        os.pwrite(fd, b"b" * 3000, size)
        eq(os.pread(fd, 3000, size), b"b" * 3000)
        os.ftruncate(fd, 5)
        os.fsync(fd)
        os.fchmod(fd, 0o600)
        write("f", b"another")
        eq(os.pread(fd, 100, 0), b"a" * 5)
        eq(read("f"), b"another")
        os.close(fd)
        os.unlink("f")
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    eq(os.listdir(fd), [])
    os.close(fd)


@case
def append():
    """O_APPEND: each write lands at the end, also from several descriptors at once"""
    fds = [os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT) for _ in range(4)]

    def writer(n):
        for i in range(many(200)):
            os.write(fds[n], f"{n}:{i:05}:{'x' * 40}\n".encode())
    threads = [threading.Thread(target=writer, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    lines = read("log").decode().splitlines()
    eq(len(lines), 4 * many(200), "lines")
    for n in range(4):
        eq([line for line in lines if line.startswith(f"{n}:")], [f"{n}:{i:05}:{'x' * 40}" for i in range(many(200))], "order")
    os.ftruncate(fds[0], 10)
    os.write(fds[1], b"behind")
    eq(os.stat("log").st_size, 16)
    for fd in fds:
        os.close(fd)


@case
def truncate():
    """what is cut off reads as zeroes when the file grows again, in every form and across their borders"""
    edges = (0, 1, 100, 4095, 4096, 4097, 70000, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 12345)
    if SMALL:
        edges = (0, 100, 4095, 4097, 70000, BLOCK + 1)
    for size in edges:
        for cut in edges:
            if cut >= size:
                continue
            write("f", b"\xaa" * size)
            os.truncate("f", cut)
            eq(os.stat("f").st_size, cut)
            os.truncate("f", size)
            eq(read("f"), b"\xaa" * cut + bytes(size - cut), f"{size} cut to {cut}")
    # A write beyond the end leaves zeroes between.
    for size, at in ((3, 100), (100, 5000), (5000, 100000), (100000, BLOCK + 5), (BLOCK + 5, 4 * BLOCK)):
        write("g", b"\xbb" * size)
        os.truncate("g", size - 1)
        fd = os.open("g", os.O_WRONLY)
        os.pwrite(fd, b"end", at)
        os.close(fd)
        eq(read("g"), b"\xbb" * (size - 1) + bytes(at - size + 1) + b"end", f"{size}, then a write at {at}")
    fails(errno.EINVAL, os.truncate, "f", -1)
    fails(errno.EFBIG, os.truncate, "f", (1 << 62))
    os.mkdir("d")
    fails(errno.EISDIR, os.truncate, "d", 0)
    # ftruncate counts as a change, also when the size stays.
    write("h", b"12345")
    os.utime("h", ns=(1, 1))
    fd = os.open("h", os.O_RDWR)
    os.ftruncate(fd, 5)
    os.close(fd)
    assert os.stat("h").st_mtime_ns > 10**18, "mtime after ftruncate to the same size"


@case
def random_writes():
    """random writes, truncates and punches against a copy in memory"""
    import random
    rnd = random.Random(5)
    model = bytearray()
    limit = 5 * MIB
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    for i in range(many(1000)):
        kind = rnd.random()
        at = rnd.randrange(limit) if rnd.random() < 0.5 else rnd.randrange(60000)
        length = rnd.choice((1, 17, 500, 4096, 10000, 100000))
        if kind < 0.6:
            data = rnd.randbytes(length)
            if len(model) < at:
                model.extend(bytes(at - len(model)))
            model[at:at + length] = data
            eq(os.pwrite(fd, data, at), length)
        elif kind < 0.7:
            if at < len(model):
                del model[at:]
            else:
                model.extend(bytes(at - len(model)))
            os.ftruncate(fd, at)
        elif kind < 0.8 and model:
            fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, length * 20)
            end = min(at + length * 20, len(model))
            if end > at:
                model[at:end] = bytes(end - at)
        elif kind < 0.85 and model:
            fallocate(fd, ZERO_RANGE, at, length)
            if len(model) < at + length:
                model.extend(bytes(at + length - len(model)))
            model[at:at + length] = bytes(length)
        elif kind < 0.9:
            os.fsync(fd)
        else:
            eq(os.pread(fd, length * 3, at), bytes(model[at:at + length * 3]), f"step {i}")
        if i % 100 == 99:
            eq(os.fstat(fd).st_size, len(model), "size")
    eq(read("f"), bytes(model), "the whole")
    os.close(fd)
    after["random_writes"] = hash_of(bytes(model))


@case
def rename_files():
    """rename replaces atomically, keeps the inode, and is nothing between two links of one file"""
    write("a", b"A")
    ino = os.stat("a").st_ino
    write("b", b"B")
    os.rename("a", "b")
    eq(read("b"), b"A")
    eq(os.stat("b").st_ino, ino)
    fails(errno.ENOENT, os.stat, "a")
    os.link("b", "c")
    os.rename("b", "c")
    eq(sorted(os.listdir(".")), ["b", "c"], "rename between two links of one file does nothing")
    os.mkdir("d")
    os.rename("b", "d/b")
    eq(read("d/b"), b"A")
    fails(errno.ENOENT, os.rename, "nothing", "x")
    fails(errno.ENOTDIR, os.rename, "d", "c")
    fails(errno.EISDIR, os.rename, "c", "d")
    fails(errno.ENOENT, os.rename, "c", "nowhere/c")
    write("e", b"open")
    fd = os.open("e", os.O_RDONLY)
    write("f", b"new")
    os.rename("f", "e")
    eq(os.read(fd, 10), b"open", "the replaced file, still open")
    os.close(fd)
    eq(read("e"), b"new")
    # A reader finds the name at every moment.
    stop = []
    missing = []

    def reader():
        while not stop:
            try:
                if read("e") not in (b"new", b"newer"):
                    missing.append("content")
            except OSError as e:
                missing.append(e)
    thread = threading.Thread(target=reader)
    thread.start()
    for i in range(many(300)):
        write("tmp", b"newer")
        os.rename("tmp", "e")
    stop.append(1)
    thread.join()
    eq(missing, [], "a reader during renames")


@case
def rename_directories():
    """directories: only over empty ones, never into themselves; .. and link counts follow"""
    os.makedirs("a/b/c")
    fails(errno.EINVAL, os.rename, "a", "a/b/x")
    fails(errno.EINVAL, os.rename, "a", "a/b/c")
    os.makedirs("full/x")
    os.mkdir("empty")
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rename, "a", "full")
    ino = os.stat("a").st_ino
    os.rename("a", "empty")
    eq(os.stat("empty").st_ino, ino)
    eq(os.stat("empty/b/..").st_ino, ino, "..")
    os.mkdir("other")
    links = os.stat("other").st_nlink
    os.rename("empty/b", "other/b")
    eq(os.stat("other").st_nlink, links + 1, "nlink of the new parent")
    eq(os.stat("empty").st_nlink, 2, "nlink of the old parent")
    eq(os.stat("other/b/..").st_ino, os.stat("other").st_ino, ".. follows")
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rmdir, "other")
    fails(errno.ENOTEMPTY, os.rmdir, "other")
    fails((errno.EINVAL, errno.EBUSY), os.rename, "other", "other/.")
    fails((errno.EINVAL,), os.rmdir, "other/.")


@case
def rename_flags():
    """RENAME_NOREPLACE and RENAME_EXCHANGE, files and directories, nothing else"""
    write("a", b"A")
    write("b", b"B")
    fails(errno.EEXIST, renameat2, "a", "b", NOREPLACE)
    eq((read("a"), read("b")), (b"A", b"B"))
    renameat2("a", "c", NOREPLACE)
    eq(read("c"), b"A")
    renameat2("b", "c", EXCHANGE)
    eq((read("b"), read("c")), (b"A", b"B"))
    fails(errno.ENOENT, renameat2, "b", "nothing", EXCHANGE)
    os.makedirs("d/sub")
    os.makedirs("d1")
    write("d/sub/in", b"in")
    n, n1 = os.stat("d").st_nlink, os.stat("d1").st_nlink
    write("d1/file", b"file")
    renameat2("d/sub", "d1/file", EXCHANGE)
    eq(read("d/sub"), b"file")
    eq(read("d1/file/in"), b"in")
    eq((os.stat("d").st_nlink, os.stat("d1").st_nlink), (n - 1, n1 + 1), "link counts after an exchange")
    eq(os.stat("d1/file/..").st_ino, os.stat("d1").st_ino, ".. after an exchange")
    renameat2("d", "d1", EXCHANGE)
    eq(read("d/file/in"), b"in")
    fails(errno.EINVAL, renameat2, "d", "d/file/in", EXCHANGE)
    fails(errno.EINVAL, renameat2, "b", "c", NOREPLACE | EXCHANGE)


@case
def links():
    """hard links count, carry their times, and not for directories"""
    write("a", b"x")
    before = os.stat("a")
    for i in range(50):
        os.link("a", f"l{i}")
    st = os.stat("l7")
    eq(st.st_nlink, 51)
    eq(st.st_ino, before.st_ino)
    assert st.st_ctime_ns >= before.st_ctime_ns, "ctime after link"
    for i in range(0, 50, 2):
        os.unlink(f"l{i}")
    eq(os.stat("a").st_nlink, 26)
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "dd")
    fails(errno.EEXIST, os.link, "a", "l1")
    fails(errno.ENOENT, os.link, "nothing", "z")
    os.symlink("a", "s")
    os.link("s", "s2", follow_symlinks=False)
    eq(os.lstat("s2").st_ino, os.lstat("s").st_ino, "a link to a symlink")
    n = os.stat("d").st_nlink
    eq(n, 2, "nlink of an empty directory")
    for i in range(10):
        os.mkdir(f"d/{i}")
    eq(os.stat("d").st_nlink, 12)
    for i in range(10):
        os.rmdir(f"d/{i}")
    eq(os.stat("d").st_nlink, 2)
    write("d/f")
    eq(os.stat("d").st_nlink, 2, "files do not count")
    fails(errno.EISDIR, os.unlink, "d")
    fails(errno.ENOTDIR, os.rmdir, "a")
    os.unlink("d/f")
    for i in (1, 2, 3):
        write(f"kept{i}", b"kept")
    os.link("kept1", "kept-link")
    after["links"] = [os.stat("kept1").st_nlink, os.stat("d").st_nlink]


@case
def symlinks():
    """targets up to 4095 bytes, as they are; ELOOP; their own owner and times"""
    for target in ("x", "a/../b", "\xe4\n", "t" * 60, "t" * 1000, "t" * 4095):
        os.symlink(target, "s")
        eq(os.readlink("s"), target)
        eq(os.lstat("s").st_size, len(os.fsencode(target)), "size of a symlink")
        os.unlink("s")
    fails(errno.ENAMETOOLONG, os.symlink, "t" * 4096, "s")
    fails(errno.ENOENT, os.symlink, "", "s")
    os.symlink("loop2", "loop1")
    os.symlink("loop1", "loop2")
    fails(errno.ELOOP, os.stat, "loop1")
    fails(errno.ELOOP, os.open, "loop1", os.O_RDONLY)
    os.lchown("loop1", 11, 12)
    os.utime("loop1", ns=(5, 6), follow_symlinks=False)
    st = os.lstat("loop1")
    eq((st.st_uid, st.st_gid, st.st_mtime_ns), (11, 12, 6))
    write("f")
    fails(errno.EINVAL, os.readlink, "f")


@case
def special_files():
    """fifos, devices and sockets keep their type and numbers, and work"""
    os.mkfifo("fifo", 0o640)
    os.mknod("char", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod("block", 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
    os.mknod("reg", 0o600 | stat.S_IFREG)
    assert stat.S_ISFIFO(os.stat("fifo").st_mode)
    eq(os.stat("char").st_rdev, os.makedev(1, 3))
    eq(os.stat("block").st_rdev, os.makedev(259, 70000))
    assert stat.S_ISREG(os.stat("reg").st_mode)
    server = socket.socket(socket.AF_UNIX)
    server.bind("sock")
    server.listen()
    assert stat.S_ISSOCK(os.stat("sock").st_mode)
    client = socket.socket(socket.AF_UNIX)
    client.connect("sock")
    client.close()
    server.close()
    r = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
    w = os.open("fifo", os.O_WRONLY)
    os.write(w, b"through")
    eq(os.read(r, 10), b"through")
    os.close(r)
    os.close(w)
    after["special_files"] = [os.stat("block").st_rdev, os.stat("fifo").st_mode]


@case
def modes():
    """chmod, chown, suid and sgid cleared by chown and by write, also of root's by a user"""
    write("f", b"x")
    os.chmod("f", 0o7777)
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o7777)
    os.chmod("f", 0o6755)
    os.chown("f", 1000, 1000)
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o755, "suid and sgid after chown")
    os.chmod("f", 0o2644)
    os.chown("f", 1000, 1001)
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o2644, "sgid without group execute is a lock, it stays")
    os.chmod("f", 0o6777)

    def user():
        with open("f", "ab", buffering=0) as f:
            f.write(b"more")
    as_user(2000, 2000, user)
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o777, "suid and sgid after a user's write")
    os.chmod("f", 0o6777)
    as_user(2000, 2000, lambda: os.truncate("f", 1))
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o777, "suid and sgid after a user's truncate")
    os.chmod("f", 0o644)
    as_user(2000, 2000, lambda: fails(errno.EACCES, os.open, "f", os.O_WRONLY))
    as_user(2000, 2000, lambda: fails(errno.EPERM, os.chmod, "f", 0o600))
    as_user(2000, 2000, lambda: fails(errno.EPERM, os.chown, "f", 2000, 2000))
    as_user(1000, 1000, lambda: os.chmod("f", 0o600))
    as_user(2000, 2000, lambda: fails(errno.EACCES, os.open, "f", os.O_RDONLY))
    # Group change by the owner, to a group of theirs only; sgid goes when a user who is not in the group chmods.
    as_user(1000, 1000, lambda: os.chown("f", -1, 1005), groups=(1005,))
    eq(os.stat("f").st_gid, 1005)
    as_user(1000, 1000, lambda: fails(errno.EPERM, os.chown, "f", -1, 1006))
    as_user(1000, 1000, lambda: os.chmod("f", 0o2755))
    eq(stat.S_IMODE(os.stat("f").st_mode), 0o755, "sgid by one who is not in the group")
    os.mkdir("d", 0o700)
    write("d/f", b"x")
    as_user(2000, 2000, lambda: fails(errno.EACCES, os.stat, "d/f"))
    os.chmod("d", 0o711)
    as_user(2000, 2000, lambda: os.stat("d/f"))
    as_user(2000, 2000, lambda: fails(errno.EACCES, os.listdir, "d"))
    as_user(2000, 2000, lambda: fails(errno.EACCES, os.open, "d/g", os.O_CREAT | os.O_WRONLY))
    os.mkdir("drop", 0o777)
    os.chmod("drop", 0o777)
    as_user(3000, 3001, lambda: write("drop/mine", b"x"))
    st = os.stat("drop/mine")
    eq((st.st_uid, st.st_gid), (3000, 3001), "owner of what a user makes")


@case
def sticky_setgid():
    """sticky directories protect other users' files; setgid directories hand down their group"""
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    as_user(1000, 1000, lambda: write("sticky/his", b"x"))
    as_user(2000, 2000, lambda: fails((errno.EPERM, errno.EACCES), os.unlink, "sticky/his"))
    as_user(2000, 2000, lambda: fails((errno.EPERM, errno.EACCES), os.rename, "sticky/his", "sticky/mine"))
    as_user(1000, 1000, lambda: os.unlink("sticky/his"))
    os.mkdir("sgid")
    os.chown("sgid", 0, 4242)
    os.chmod("sgid", 0o2777)

    def user():
        write("sgid/f")
        os.mkdir("sgid/d")
        os.symlink("x", "sgid/s")
        os.mkfifo("sgid/p")
        fd = os.open("sgid/x", os.O_CREAT | os.O_WRONLY, 0o2755)
        os.close(fd)
    as_user(1000, 1000, user)
    for name in "fdspx":
        eq(os.lstat(f"sgid/{name}").st_gid, 4242, f"group of {name}")
    eq(stat.S_IMODE(os.stat("sgid/d").st_mode) & 0o2000, 0o2000, "setgid goes on to directories")
    eq(stat.S_IMODE(os.stat("sgid/x").st_mode) & 0o2000, 0, "but not to a file of one who is not in the group")


@case
def times():
    """nanoseconds are kept; mtime and ctime move as they must; relatime"""
    write("f", b"x")
    ns = (1_234_567_890_123_456_789, 987_654_321_987_654_321)
    os.utime("f", ns=ns)
    st = os.stat("f")
    eq((st.st_atime_ns, st.st_mtime_ns), ns)
    for sec in (-1, 0, -2_000_000_000, 4_000_000_000, 10_000_000_000):
        os.utime("f", ns=(sec * 10**9 + 5, sec * 10**9 + 7))
        eq(os.stat("f").st_mtime_ns, sec * 10**9 + 7, "mtime")
        eq(os.stat("f").st_atime_ns, sec * 10**9 + 5, "atime")

    def moved(call, path, fields):
        os.utime(path, ns=(1, 1), follow_symlinks=False)
        old = os.lstat(path)
        # The kernel's own stamps come from its coarse clock, which is behind the one that brickfs reads: both are past the old ones then.
        while time.clock_gettime_ns(REALTIME_COARSE) <= max(old.st_mtime_ns, old.st_ctime_ns):
            time.sleep(0.004)
        call()
        new = os.lstat(path)
        for field in ("st_mtime_ns", "st_ctime_ns"):
            if field in fields:
                assert getattr(new, field) > getattr(old, field), f"{field} of {path} should have moved"
            else:
                eq(getattr(new, field), getattr(old, field), f"{field} of {path}")
    both = ("st_mtime_ns", "st_ctime_ns")
    ctime = ("st_ctime_ns",)
    os.mkdir("d")
    moved(lambda: write("f", b"y"), "f", both)
    moved(lambda: os.chmod("f", 0o600), "f", ctime)
    moved(lambda: os.chown("f", 1, 1), "f", ctime)
    moved(lambda: os.link("f", "g"), "f", ctime)
    moved(lambda: os.unlink("g"), "f", ctime)
    moved(lambda: os.setxattr("f", "user.x", b"1"), "f", ctime)
    moved(lambda: os.rename("f", "f2"), "d", ())
    os.rename("f2", "f")
    moved(lambda: write("d/new"), "d", both)
    moved(lambda: write("d/new", b"again"), "d", ())
    moved(lambda: os.rename("d/new", "d/newer"), "d", both)
    moved(lambda: os.unlink("d/newer"), "d", both)
    moved(lambda: os.mkdir("d/sub"), "d", both)
    moved(lambda: os.rmdir("d/sub"), "d", both)
    moved(lambda: os.symlink("x", "d/s"), "d", both)
    # relatime: an atime older than mtime moves with a read.
    os.utime("f", ns=(10**18, 10**18 + 10**9))
    read("f")
    after["times"] = os.stat("d").st_mtime_ns
    as_user(2000, 2000, lambda: fails(errno.EPERM, os.utime, "f", ns=(1, 1)))
    os.chmod("f", 0o666)
    as_user(2000, 2000, lambda: os.utime("f"))
    as_user(2000, 2000, lambda: fails(errno.EPERM, os.utime, "f", ns=(1, 1)))


@case
def mappings():
    """shared mappings: seen by read, written back, holes are filled, also after the descriptor is closed"""
    size = 3 * MIB + 5000
    fd = os.open("m", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    m = mmap.mmap(fd, size)
    for at in (0, 4095, BLOCK - 1, BLOCK, size - 1):
        m[at] = 0x5a
    for at in (0, 4095, BLOCK - 1, BLOCK, size - 1):
        eq(os.pread(fd, 1, at), b"\x5a", f"read of a mapped byte at {at}")
    os.pwrite(fd, b"written", 8192)
    eq(bytes(m[8192:8199]), b"written", "a write seen in the mapping")
    m.flush()
    os.close(fd)
    m[100:110] = b"after the "
    m.close()
    data = read("m")
    eq(len(data), size)
    eq(data[100:110], b"after the ")
    want = bytearray(size)
    for at in (0, 4095, BLOCK - 1, BLOCK, size - 1):
        want[at] = 0x5a
    want[8192:8199] = b"written"
    want[100:110] = b"after the "
    eq(data, bytes(want))
    fd = os.open("m", os.O_RDONLY)
    p = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    p[0] = 1
    eq(os.pread(fd, 1, 0), b"\x5a", "a private mapping")
    p.close()
    os.close(fd)
    # What stands behind the end in the last page is not in the file when it grows.
    write("tail", b"abc")
    fd = os.open("tail", os.O_RDWR)
    m = mmap.mmap(fd, 4096 if os.fstat(fd).st_size >= 4096 else 0)
    m.close()
    os.ftruncate(fd, 4096)
    eq(os.pread(fd, 4096, 0), b"abc" + bytes(4093))
    os.close(fd)
    after["mappings"] = hash_of(bytes(want))


@case
def holes():
    """st_blocks tells the truth: holes are none, writing makes some, punching gives them back"""
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 40 * MIB)
    eq(settled_blocks(fd), 0, "blocks of a hole")
    eq(os.pread(fd, 100, 30 * MIB), bytes(100))
    os.pwrite(fd, b"x" * 100, 20 * MIB)
    one = settled_blocks(fd)
    assert 1 <= one <= 2 * BLOCK // 512, f"{one} blocks after one small write"
    os.pwrite(fd, b"y" * (8 * MIB), 4 * MIB)
    many = settled_blocks(fd)
    assert many >= one + 8 * MIB // 512, f"{many} blocks after 8 MiB, {one} before"
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 4 * MIB, 8 * MIB)
    eq(settled_blocks(fd), one, "blocks after punching")
    eq(os.pread(fd, 8 * MIB, 4 * MIB), bytes(8 * MIB), "a punched range")
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 40 * MIB)
    eq(settled_blocks(fd), 0, "blocks after punching all")
    eq(os.fstat(fd).st_size, 40 * MIB)
    os.close(fd)
    write("small", b"z" * 20000)
    os.sync()
    blocks = os.stat("small").st_blocks
    assert blocks * 512 >= 20000, f"{blocks} blocks for 20000 bytes"
    os.truncate("small", 0)
    eq(os.stat("small").st_blocks, 0, "blocks of an empty file")
    for i in range(3):
        write(f"space{i}", b"s" * 5 * MIB)
    os.sync()


@case
def fallocates():
    """allocate, keep size, punch and zero in odd places; the modes that are not there say EOPNOTSUPP"""
    fd = os.open("f", os.O_RDWR | os.O_CREAT)
    fallocate(fd, 0, 0, 5 * MIB)
    eq(os.fstat(fd).st_size, 5 * MIB)
    assert os.fstat(fd).st_blocks >= 5 * MIB // 512, f"{os.fstat(fd).st_blocks} blocks after fallocate of 5 MiB"
    eq(os.pread(fd, 5 * MIB, 0), bytes(5 * MIB))
    fallocate(fd, KEEP_SIZE, 5 * MIB, 5 * MIB)
    eq(os.fstat(fd).st_size, 5 * MIB)
    os.pwrite(fd, b"q" * (5 * MIB), 0)
    fallocate(fd, ZERO_RANGE, 1000, 3 * MIB)
    eq(os.pread(fd, 5 * MIB, 0), b"q" * 1000 + bytes(3 * MIB) + b"q" * (2 * MIB - 1000), "zeroed")
    fallocate(fd, ZERO_RANGE | KEEP_SIZE, 4 * MIB, 4 * MIB)
    eq(os.fstat(fd).st_size, 5 * MIB)
    eq(os.pread(fd, MIB, 4 * MIB), bytes(MIB))
    fallocate(fd, ZERO_RANGE, 4 * MIB, 4 * MIB)
    eq(os.fstat(fd).st_size, 8 * MIB, "zeroing beyond the end grows")
    os.pwrite(fd, b"r" * (8 * MIB), 0)
    for at, length in ((1, 1), (4096, 4096), (9000, 100), (BLOCK - 10, 20), (2 * BLOCK, BLOCK), (7 * MIB + 1, 50 * MIB)):
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, at, length)
        end = min(at + length, 8 * MIB)
        eq(os.pread(fd, end - at, at), bytes(end - at), f"punched at {at}")
        eq(os.pread(fd, 1, at - 1), b"r", f"before the hole at {at}")
        if end < 8 * MIB:
            eq(os.pread(fd, 1, end), b"r", f"behind the hole at {at}")
    fails((errno.EOPNOTSUPP, errno.EINVAL), fallocate, fd, PUNCH_HOLE, 0, 4096)
    for mode in (COLLAPSE_RANGE, INSERT_RANGE):
        fails((errno.EOPNOTSUPP, errno.EINVAL), fallocate, fd, mode, BLOCK, BLOCK)
    fails(errno.EINVAL, fallocate, fd, 0, 0, 0)
    fails(errno.EINVAL, fallocate, fd, 0, -1, 5)
    fails(errno.EFBIG, fallocate, fd, 0, 1 << 62, 1 << 20)
    os.close(fd)
    ro = os.open("f", os.O_RDONLY)
    fails(errno.EBADF, fallocate, ro, 0, 0, 4096)
    os.close(ro)
    for size in (0, 10, 5000):
        write("small", b"s" * size)
        fd = os.open("small", os.O_RDWR)
        fallocate(fd, 0, 0, 9000)
        eq(os.pread(fd, 10000, 0), b"s" * size + bytes(9000 - size), f"fallocate over {size} bytes")
        fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 2, 4000)
        eq(os.pread(fd, 3, 0), (b"s" * size + bytes(3))[:2] + b"\0", "a punch into a small file")
        os.close(fd)


@case
def xattrs():
    """user, trusted and security attributes: create, replace, list, sizes up to 64 KiB, and who may"""
    write("f")
    os.mkdir("d")
    os.symlink("f", "s")
    for path in ("f", "d"):
        os.setxattr(path, "user.one", b"1")
        os.setxattr(path, "user.two", b"")
        os.setxattr(path, "trusted.three", b"\0\xff" * 100)
        eq(sorted(os.listxattr(path)), ["trusted.three", "user.one", "user.two"])
        eq(os.getxattr(path, "user.two"), b"")
        fails(errno.EEXIST, os.setxattr, path, "user.one", b"x", os.XATTR_CREATE)
        fails(errno.ENODATA, os.setxattr, path, "user.none", b"x", os.XATTR_REPLACE)
        os.setxattr(path, "user.one", b"other", os.XATTR_REPLACE)
        eq(os.getxattr(path, "user.one"), b"other")
        fails(errno.ENODATA, os.getxattr, path, "user.none")
        os.removexattr(path, "user.one")
        fails(errno.ENODATA, os.removexattr, path, "user.one")
        eq(sorted(os.listxattr(path)), ["trusted.three", "user.two"])
    os.setxattr("f", "user.big", b"v" * 60000)
    eq(os.getxattr("f", "user.big"), b"v" * 60000)
    os.setxattr("f", "user." + "n" * 250, b"long name")
    eq(os.getxattr("f", "user." + "n" * 250), b"long name")
    fails((errno.ERANGE, errno.ENAMETOOLONG), os.setxattr, "f", "user." + "n" * 251, b"")
    fails((errno.E2BIG,), os.setxattr, "f", "user.huge", b"v" * 65537)
    fails(errno.EPERM, os.setxattr, "s", "user.on-symlink", b"", follow_symlinks=False)
    os.setxattr("s", "trusted.on-symlink", b"1", follow_symlinks=False)
    as_user(2000, 2000, lambda: fails((errno.EPERM, errno.EACCES), os.setxattr, "f", "user.mine", b"x"))
    as_user(2000, 2000, lambda: fails((errno.EPERM, errno.ENODATA), os.getxattr, "f", "trusted.three"))
    fails((errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL), os.setxattr, "f", "nonsense.name", b"x")
    after["xattrs"] = sorted(os.listxattr("f"))


@case
def directories():
    """readdir sees each entry once while others come and go; seekdir by position; a thousand subdirectories"""
    os.mkdir("d")
    files, directories = many(3000), many(1000)
    for i in range(files):
        write(f"d/keep{i:04}" if i % 3 else f"d/gone{i:04}")
    seen = []
    with os.scandir("d") as it:
        for n, entry in enumerate(it):
            seen.append(entry.name)
            if n % 10 == 0:
                for k in range(n, n + 10):
                    i = (k * 3) % files
                    if os.path.exists(f"d/gone{i:04}"):
                        os.unlink(f"d/gone{i:04}")
                write(f"d/new{n}")
    eq(len(seen), len(set(seen)), "an entry was seen twice")
    missing = {f"keep{i:04}" for i in range(files) if i % 3} - set(seen)
    eq(missing, set(), "entries that were there all the time")
    # rm -r as it is often done: read some, delete them, read on.
    while True:
        names = []
        with os.scandir("d") as it:
            for entry in it:
                names.append(entry.name)
                os.unlink(f"d/{entry.name}")
        if not names:
            break
    os.rmdir("d")
    os.mkdir("e")
    for i in range(directories):
        os.mkdir(f"e/{i}")
    eq(os.stat("e").st_nlink, directories + 2)
    eq(sorted(os.listdir("e"), key=int), [str(i) for i in range(directories)])
    with os.scandir("e") as it:
        for entry in it:
            assert entry.is_dir(follow_symlinks=False)
            eq(entry.inode(), os.stat(f"e/{entry.name}").st_ino, "d_ino")
    fails(errno.ENOTEMPTY, os.rmdir, "e")
    eq(os.stat("e/..").st_ino, os.stat(".").st_ino)
    fd = os.open("e", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    after["directories"] = len(os.listdir("e"))


@case
def inode_numbers():
    """inode numbers are not used again, and a handle to a deleted file stays stale"""
    used = set()
    for i in range(many(300)):
        write("f")
        ino = os.stat("f").st_ino
        assert ino not in used, f"inode number {ino} is used twice"
        used.add(ino)
        os.unlink("f")


@case
def io_errors():
    """reads at and beyond the end, writes by read-only descriptors, lseek, pread of nothing"""
    write("f", b"0123456789")
    fd = os.open("f", os.O_RDONLY)
    eq(os.pread(fd, 100, 5), b"56789")
    eq(os.pread(fd, 100, 10), b"")
    eq(os.pread(fd, 100, 1 << 40), b"")
    fails(errno.EBADF, os.write, fd, b"x")
    eq(os.lseek(fd, 0, os.SEEK_END), 10)
    eq(os.lseek(fd, 3, os.SEEK_SET), 3)
    fails(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
    os.close(fd)
    fd = os.open(".", os.O_RDONLY)
    fails(errno.EISDIR, os.read, fd, 10)
    os.close(fd)
    fd = os.open("f", os.O_RDWR)
    def too_far():
        # The kernel takes it into its cache, and the filesystem's answer comes at fsync.
        os.pwrite(fd, b"x", 1 << 62)
        os.fsync(fd)
    fails((errno.EFBIG, errno.EIO), too_far)
    os.ftruncate(fd, 10)
    os.pwrite(fd, b"far", 1 << 45)
    eq(os.fstat(fd).st_size, (1 << 45) + 3)
    eq(os.pread(fd, 10, (1 << 45) - 3), b"\0\0\0far")
    os.ftruncate(fd, 0)
    os.close(fd)


@case
def direct_io():
    """O_DIRECT, O_SYNC and buffered I/O on one file agree"""
    buffer = mmap.mmap(-1, MIB)
    buffer.write(b"D" * MIB)
    fd = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    eq(os.pwrite(fd, buffer, 0), MIB)
    eq(os.pwrite(fd, buffer, 3 * MIB), MIB)
    eq(read("f"), b"D" * MIB + bytes(2 * MIB) + b"D" * MIB)
    plain = os.open("f", os.O_RDWR)
    os.pwrite(plain, b"buffered", 4096 * 3)
    got = mmap.mmap(-1, 4096)
    eq(os.preadv(fd, [got], 4096 * 3), 4096)
    eq(got[:9], b"bufferedD", "direct reads see buffered writes")
    os.pwrite(fd, buffer, 0)
    eq(os.pread(plain, 8, 4096 * 3), b"D" * 8, "buffered reads see direct writes")
    os.close(fd)
    os.close(plain)
    fd = os.open("g", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    os.write(fd, b"sync")
    os.close(fd)
    eq(read("g"), b"sync")


@case
def locks():
    """flock and fcntl locks between processes"""
    write("f", b"x" * 100)
    fd = os.open("f", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)

    def other():
        f = os.open("f", os.O_RDWR)
        fails(errno.EWOULDBLOCK, fcntl.flock, f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    as_user(0, 0, other)
    fcntl.flock(fd, fcntl.LOCK_UN)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)

    def another():
        f = os.open("f", os.O_RDWR)
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 50)
        fails((errno.EAGAIN, errno.EACCES), fcntl.lockf, f, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, 22)
    as_user(0, 0, another)
    os.close(fd)


@case
def statfs():
    """statfs: 255-byte names, sane numbers, and space that goes and comes back"""
    st = os.statvfs(".")
    eq(st.f_namemax, 255)
    assert st.f_blocks > 0 and st.f_bavail <= st.f_bfree <= st.f_blocks, st
    assert st.f_files > 0 and st.f_ffree > 0, st
    write("big", b"\1" * (20 * MIB))
    fd = os.open("big", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    used = (st.f_bfree - os.statvfs(".").f_bfree) * st.f_frsize
    assert used >= 18 * MIB, f"20 MiB written, statfs moved by {used}"
    os.unlink("big")
    for _ in range(200):
        left = (st.f_bfree - os.statvfs(".").f_bfree) * st.f_frsize
        if left <= 6 * MIB:
            break
        time.sleep(0.05)
    assert left <= 6 * MIB, f"deleted, and {left} bytes are still gone"


@case
def programs():
    """programs run from here, text busy is refused or allowed as the kernel says, scripts too"""
    write("true", read("/bin/true"), 0o755)
    eq(os.spawnv(os.P_WAIT, "./true", ["./true"]), 0)
    write("script", b"#!/bin/sh\nexit 7\n", 0o755)
    eq(os.spawnv(os.P_WAIT, "./script", ["./script"]), 7)
    os.chmod("script", 0o644)
    fails(errno.EACCES, os.execv, "./script", ["./script"])


def settled_blocks(fd):
    """st_blocks once the kernel's pages are written; it asks again after a close (fuse_flush)."""
    os.fsync(fd)
    os.close(os.dup(fd))
    return os.fstat(fd).st_blocks


def hash_of(data):
    import hashlib
    return hashlib.sha256(data).hexdigest()


after = {}


def check_after(top):
    """What must be the same after a remount."""
    with open(f"{top}/after.json") as f:
        was = json.load(f)
    checks = {
        "random_writes": lambda: hash_of(read("random_writes/f")),
        "links": lambda: [os.stat("links/kept1").st_nlink, os.stat("links/d").st_nlink],
        "special_files": lambda: [os.stat("special_files/block").st_rdev, os.stat("special_files/fifo").st_mode],
        "times": lambda: os.stat("times/d").st_mtime_ns,
        "mappings": lambda: hash_of(read("mappings/m")),
        "xattrs": lambda: sorted(os.listxattr("xattrs/f")),
        "directories": lambda: len(os.listdir("directories/e")),
    }
    failed = 0
    os.chdir(top)
    for name, value in was.items():
        now = checks[name]()
        if now == value:
            print(f"ok      {name}, after the remount")
        else:
            failed += 1
            print(f"FAILED  {name}, after the remount: {now}, was {value}")
    return failed


def main():
    if sys.argv[1] == "--after":
        return 1 if check_after(sys.argv[2]) else 0
    top = os.path.abspath(sys.argv[1])
    wanted = sys.argv[2:]
    failed = 0
    os.umask(0o022)
    os.chmod(top, 0o755)
    for f in cases:
        if wanted and f.__name__ not in wanted:
            continue
        os.mkdir(f"{top}/{f.__name__}")
        os.chdir(f"{top}/{f.__name__}")
        begin = time.monotonic()
        try:
            f()
            print(f"ok      {f.__name__}: {f.__doc__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {f.__name__}: {f.__doc__}\n{traceback.format_exc()}", flush=True)
    os.chdir("/")
    with open(f"{top}/after.json", "w") as out:
        json.dump(after, out)
    print(f"{failed} failed")
    return 1 if failed else 0


sys.exit(main())
