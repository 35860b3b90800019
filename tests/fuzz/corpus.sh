#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Shows that the inputs of the kept corpora, which reach far into what reads hostile bytes, do no harm.
set -u
status=0
for target in wire format mount lane peer pool text; do
	"tests/fuzz/fuzz_$target" "${srcdir-.}"/tests/fuzz/corpus/fuzz_$target/* >"fuzz-corpus.$$" 2>&1 || {
		echo "FAIL: fuzz_$target:"
		tail -n 20 "fuzz-corpus.$$"
		status=1
	}
	echo "fuzz_$target: $(grep -c bytes "fuzz-corpus.$$") inputs"
	rm -f "fuzz-corpus.$$"
done
exit "$status"
