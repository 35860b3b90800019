# Hostile bytes.  fuzz_wire has a driver of its own and runs in make check; with clang,
# "make CC=clang tests/fuzz/fuzz_wire_libfuzzer" makes a libFuzzer target of the same.
check_PROGRAMS += tests/fuzz/fuzz_wire
TESTS += tests/fuzz/fuzz_wire
tests_fuzz_fuzz_wire_SOURCES = tests/fuzz/fuzz_wire.c tests/fuzz/wire_cases.h tests/fuzz/wire_cases.c
tests_fuzz_fuzz_wire_LDADD = common/libcommon.la

EXTRA_PROGRAMS += tests/fuzz/fuzz_wire_libfuzzer
tests_fuzz_fuzz_wire_libfuzzer_SOURCES = tests/fuzz/fuzz_wire.c tests/fuzz/wire_cases.c common/wire.c
tests_fuzz_fuzz_wire_libfuzzer_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_LIBFUZZER
tests_fuzz_fuzz_wire_libfuzzer_CFLAGS = $(AM_CFLAGS) -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_wire_libfuzzer_LDFLAGS = $(AM_LDFLAGS) -fsanitize=fuzzer,address,undefined
