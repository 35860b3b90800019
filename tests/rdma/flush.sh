#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# Shows: persistence by RDMA FLUSH, compiled in and carried out by a device, where this machine's own rdma-core is too old for it.
#
# flush.sh [NAME...] - in a build directory; names as for tests/functional/run.sh (flush-rdma).  Under make only with BRICKFS_TEST_FLUSH=1.
#
# RDMA FLUSH wants rdma-core 45.  Where this build has an older one, a newer Debian's is downloaded, with the libc that it
# wants, and unpacked below ~/.cache/brickfs-vm, beside the virtual machine's kernel; nothing is installed.  The project is built
# against it in tests/rdma/flush/build, and in the virtual machine it lies over the machine's own libraries.
# Environment: RDMA_SUITE, the Debian that it comes from (trixie); FLUSH_LIMIT, seconds that the machine may run (300).
set -u -o pipefail
export LC_ALL=C

here=$(cd "$(dirname "$0")" && pwd) || exit 1
SRC=$(cd "$here/../.." && pwd) || exit 1
BUILD=$PWD
own=$BUILD/tests/rdma/flush
suite=${RDMA_SUITE:-trixie}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/brickfs-vm
root=$cache/rdma-core-$suite

skip() {
	echo "skipped: $*"
	exit 77
}

fail() {
	echo "FAILED: $*"
	exit 1
}

[ -z "${MAKELEVEL-}" ] || [ "${BRICKFS_TEST_FLUSH-}" = 1 ] || skip "only with BRICKFS_TEST_FLUSH=1: it downloads packages, and builds the project once more"
[ -f "$BUILD/config.h" ] || fail "run me in a build directory"
words=$("$here/vm-run" --prepare 2>&1) || skip "no virtual machine here: ${words##*$'\n'}"

# --- a newer rdma-core

# The archive that this machine gets its own Debian from, as a line of sources for the suite.
source_line() {
	local uri key keys=/usr/share/keyrings/debian-archive-keyring.gpg
	uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 'Component: main' 2>/dev/null | head -n 1)
	[ -n "$uri" ] || return
	[ -e $keys ] && key="[signed-by=$keys] "
	echo "deb ${key-}$uri $suite main"
}

# The packages of these kinds that others depend on.
libraries() {
	apt-cache -c "$1/apt.conf" depends "${@:2}" 2>/dev/null | sed -nE 's/^ *Depends: ((lib(ibverbs|rdmacm|nl-)|ibverbs-)[a-z0-9.-]*)$/\1/p' | grep -v -e '-dev$'
}

# fetch: with lists and a configuration of its own, so that this machine's apt knows nothing of it.
fetch() {
	local new line first
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "no apt-get to download $suite's rdma-core with"
	line=$(source_line)
	[ -n "$line" ] || skip "apt knows no archive of Debian here to download $suite's rdma-core from (apt-get update?)"
	mkdir -p "$cache" && new=$(mktemp -d "$cache/new.XXXXXX") || fail "cannot write $cache"
	mkdir -p "$new"/{apt/lists/partial,apt/cache/archives/partial,deb,root}
	: >"$new/apt/status"
	echo "$line" >"$new/apt/sources.list"
	cat >"$new/apt.conf" <<END
Dir::Etc::SourceList "$new/apt/sources.list";
Dir::Etc::SourceParts "-";
Dir::Etc::Preferences "-";
Dir::Etc::PreferencesParts "-";
Dir::State::Lists "$new/apt/lists";
Dir::State::Status "$new/apt/status";
Dir::Cache "$new/apt/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "1";
END
	echo "downloading rdma-core of $suite, once"
	apt-get -q -c "$new/apt.conf" update >"$new/log" 2>&1 && ! grep -qE '^(Err|W: Failed)' "$new/log" || {
		tail -n 3 "$new/log"
		rm -rf "$new"
		skip "no lists of Debian's $suite (no network?)"
	}
	mapfile -t first < <(libraries "$new" libibverbs-dev librdmacm-dev)
	# shellcheck disable=SC2046
	(cd "$new/deb" && apt-get -q -c "$new/apt.conf" download libc6 libibverbs-dev librdmacm-dev ibverbs-providers \
		$({ printf '%s\n' "${first[@]}" && libraries "$new" "${first[@]}"; } | sort -u)) >>"$new/log" 2>&1 || {
		tail -n 3 "$new/log"
		rm -rf "$new"
		skip "the packages of $suite's rdma-core cannot be downloaded"
	}
	for deb in "$new"/deb/*.deb; do
		dpkg-deb -x "$deb" "$new/root" || fail "cannot unpack $deb"
	done
	mv -T "$new/root" "$root" 2>/dev/null
	rm -rf "$new"
	[ -d "$root" ] || fail "cannot make $root"
}

over=
if ! grep -q 'HAVE_DECL_IBV_WR_FLUSH 1' "$BUILD/config.h"; then
	[ ! -e "$SRC/config.status" ] || skip "the source directory is a build directory, and no other can be made (make distclean)"
	[ -d "$root" ] || fetch
	over=$(dirname "$(find "$root" -name libibverbs.so | head -n 1)")
	grep -q ibv_wr_flush "$root/usr/include/infiniband/verbs.h" || skip "$suite's rdma-core has no RDMA FLUSH (set RDMA_SUITE to a later one)"
	begin=$SECONDS
	mkdir -p "$own/build" && cd "$own/build" || exit 1
	# What is found there links against symbols of a libc that is not here.
	compiler=$(sed -n "s/^CC='\(.*\)'$/\1/p" "$BUILD/config.log" | head -n 1)
	[ -f Makefile ] || "$SRC/configure" CC="${compiler:-cc}" LDFLAGS=-Wl,--allow-shlib-undefined IBVERBS_CFLAGS="-I$root/usr/include" \
		IBVERBS_LIBS="-L$over -libverbs" RDMACM_CFLAGS="-I$root/usr/include" RDMACM_LIBS="-L$over -lrdmacm" >"$own/log" 2>&1 ||
		fail "configure: $(tail -n 3 "$own/log")"
	grep -q 'HAVE_DECL_IBV_WR_FLUSH 1' config.h || fail "configure has not found ibv_wr_flush() in $root"
	env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS make -j"$(nproc)" all tests/rdma/flush-client tests/rdma/raw-verbs tests/functional/persist >"$own/log" 2>&1 ||
		fail "make: $(grep -m 3 -i 'error' "$own/log")"
	echo "built with RDMA FLUSH in $((SECONDS - begin)) s"
fi

# --- in the virtual machine

results=$own/results
rm -rf "$results" && mkdir -p "$results" || exit 1
# One mount changes all: programs that begin later have the new libc as well, which is good for old ones too.
# shellcheck disable=SC2016
SRC=$SRC BUILD=$PWD "$here/vm-run" --times --limit "${FLUSH_LIMIT:-300}" --memory 2048 --pmem 256M:devdax --pmem 256M:devdax --rw "$results" \
	--env SMALL=1 --env SRC --env BUILD --env SCRATCH=/dev/shm --env KEEP= --env TRACE --env PERSIST_POINTS --env PERSIST_SECONDS --env OVER="$over" \
	bash -c '
		own=$(dirname "$(readlink -f /usr/lib/*/libc.so.6)")
		[ -z "$OVER" ] || mount -t overlay -o "lowerdir=$OVER:$own" overlay "$own" || exit
		exec bash "$@"' flush.sh "$here/guest.sh" "$results" "${@:-flush-rdma}" 2>&1
status=$?
[ $status != 0 ] || sed -n '/^flush-client\|FLUSH/p' "$results"/*.log
exit $status
