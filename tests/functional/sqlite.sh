# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Shows: an SQLite database in WAL mode under concurrent writers counts right and passes its integrity check
. "$SRC/tests/functional/lib.sh"

need sqlite3

start_bricks 512
make_fs
mount_fs
db=$M/test.db
must sqlite3 "$db" "PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, writer INT, n INT, words TEXT); CREATE INDEX w ON t(writer, n);"
writers=4
rows=${FULL:+2000}
rows=${rows:-150}
writer() {
	local i
	for ((i = 1; i <= rows; i++)); do
		echo "INSERT INTO t(writer, n, words) VALUES($1, $i, hex(randomblob(200)));"
		[ $((i % 10)) = 0 ] && echo "UPDATE t SET words = words || 'x' WHERE writer = $1 AND n % 7 = 0;"
	done | sqlite3 -cmd '.timeout 120000' -bail "$db"
}
pids=
for ((w = 1; w <= writers; w++)); do
	writer $w &
	pids+=" $!"
done
for pid in $pids; do
	wait "$pid" || fail "a writer failed"
done
count() {
	[ "$(sqlite3 "$db" 'SELECT count(*), count(DISTINCT writer), max(n) FROM t')" = "$((writers * rows))|$writers|$rows" ] ||
		fail "rows: $(sqlite3 "$db" 'SELECT count(*), count(DISTINCT writer), max(n) FROM t')"
	[ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "integrity_check: $(sqlite3 "$db" 'PRAGMA integrity_check' | head)"
}
count
umount_fs
mount_fs
count
must sqlite3 "$db" "DELETE FROM t WHERE n % 2 = 0; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);"
[ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "integrity_check after VACUUM"
[ "$(sqlite3 "$db" 'PRAGMA journal_mode=DELETE')" = delete ] || fail "journal_mode=DELETE"
must sqlite3 "$db" "INSERT INTO t(writer, n, words) VALUES(9, 9, 'rollback journal');"

# A writer that dies with the whole mount: what was committed is there.
must sqlite3 "$db" "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; INSERT INTO t(writer, n, words) VALUES(10, 10, 'committed');"
kill9_mount
mount_fs
[ "$(sqlite3 "$db" 'SELECT words FROM t WHERE writer = 10')" = committed ] || fail "a committed row is gone after kill -9"
[ "$(sqlite3 "$db" 'PRAGMA integrity_check')" = ok ] || fail "integrity_check after kill -9"
umount_fs
fsck_clean
