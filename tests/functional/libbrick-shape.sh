#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Shows: what libbrick exports is what brick.h declares and brick(3) describes, and the example there is the one that is tested.
set -u

src=${srcdir:-$(dirname "$0")/../..}
lib=common/.libs/libbrick.so
status=0

differ() {
	echo "FAILED: $1"
	status=1
}

[ -e $lib ] || {
	echo "skipped: libbrick is not built as a shared library"
	exit 77
}
exported=$(nm -D --defined-only $lib | sed -n 's/^[0-9a-f]* [TDBR] \(.*\)@@BRICK_0\.1$/\1/p' | sort)
declared=$(sed 's|/\*.*\*/||' "$src/common/brick.h" | grep -oE '\bbrick_[a-z_]+(\(|\[BRICK_OPS\];)' | sed 's/[[(].*//' | sort -u)
diff <(echo "$declared") <(echo "$exported") || differ "brick.h (<) and $lib (>) are not the same"
others=$(nm -D --defined-only $lib | grep -E ' [TDBRVW] ' | grep -v '@@BRICK_0\.1$')
[ -z "$others" ] || differ "$lib exports what is not its own: $others"
for name in $declared; do
	grep -q "$name" "$src/man/brick.3" || differ "brick(3) does not know $name"
done
readelf -d $lib | grep -q 'SONAME.*\[libbrick\.so\.0\]' || differ "the soname is not libbrick.so.0"
diff <(sed -n '/^\.EX$/,/^\.EE$/{//!p}' "$src/man/brick.3" | sed 's/\\-/-/g; s/\\e/\\/g') \
	<(sed 1d "$src/tests/functional/brick-example.c") ||
	differ "the example of brick(3) (<) is not tests/functional/brick-example.c (>)"
[ $status = 0 ] && echo "$(wc -w <<<"$declared") functions: exported, declared, described"
exit $status
