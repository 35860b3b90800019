#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Shows: every problem in the core's table stands, with its words, in fsck.brickfs(8) and in brickfs-format(5), and each code that is told is in the table
src=${srcdir:-.}
status=0
sed -n 's/^\t{ "\([a-z-]*\)", "\([^"]*\)", "\([^"]*\)", \(true\|false\), .*/\1|\2|\3/p' "$src/brickfs/problem.c" >problems.$$
[ "$(wc -l <problems.$$)" -gt 30 ] || { echo "the table cannot be read"; status=1; }
while IFS='|' read -r code meaning repair; do
	for page in fsck.brickfs.8 brickfs-format.5; do
		grep -q "^$code|" "$src/man/$page" && grep -qxF -- "$meaning" "$src/man/$page" || { echo "$page lacks $code: $meaning"; status=1; }
	done
	grep -qxF -- "$repair" "$src/man/fsck.brickfs.8" || { echo "fsck.brickfs.8 lacks the repair of $code: $repair"; status=1; }
done <problems.$$
for code in $(grep -rhoE 'fs_damage\([^,]+, "[a-z-]+"' "$src"/brickfs/*.c | sed 's/.*"\(.*\)"/\1/' | sort -u); do
	grep -q "^$code|" problems.$$ || { echo "$code is told and not in the table"; status=1; }
done
rm -f problems.$$
exit $status
