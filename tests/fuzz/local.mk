# Hostile bytes (fuzz.h).  With driver.c the targets run in make check; clang makes libFuzzer targets of the same: "make fuzz".
FUZZ_FLAGS = -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
fuzz_driver = tests/fuzz/fuzz.h tests/fuzz/driver.c
fuzz_targets = wire format mount lane peer pool text

check_PROGRAMS += tests/fuzz/fuzz_wire
TESTS += tests/fuzz/fuzz_wire
tests_fuzz_fuzz_wire_SOURCES = tests/fuzz/fuzz_wire.c tests/fuzz/wire_cases.h tests/fuzz/wire_cases.c $(fuzz_driver)
tests_fuzz_fuzz_wire_LDADD = common/libcommon.la
EXTRA_PROGRAMS += tests/fuzz/fuzz_wire_libfuzzer
tests_fuzz_fuzz_wire_libfuzzer_SOURCES = tests/fuzz/fuzz_wire.c tests/fuzz/fuzz.h \
	tests/fuzz/wire_cases.h tests/fuzz/wire_cases.c common/wire.c
tests_fuzz_fuzz_wire_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_wire_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)

check_PROGRAMS += tests/fuzz/fuzz_format
TESTS += tests/fuzz/fuzz_format
tests_fuzz_fuzz_format_SOURCES = tests/fuzz/fuzz_format.c $(fuzz_driver)
tests_fuzz_fuzz_format_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
tests_fuzz_fuzz_format_LDADD = brickfs/libcore.la
EXTRA_PROGRAMS += tests/fuzz/fuzz_format_libfuzzer
tests_fuzz_fuzz_format_libfuzzer_SOURCES = tests/fuzz/fuzz_format.c tests/fuzz/fuzz.h brickfs/format.c
tests_fuzz_fuzz_format_libfuzzer_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(XXHASH_CFLAGS)
tests_fuzz_fuzz_format_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_format_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_format_libfuzzer_LDADD = $(XXHASH_LIBS)

check_PROGRAMS += tests/fuzz/fuzz_mount
TESTS += tests/fuzz/fuzz_mount
tests_fuzz_fuzz_mount_SOURCES = tests/fuzz/fuzz_mount.c $(fuzz_driver)
tests_fuzz_fuzz_mount_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash
tests_fuzz_fuzz_mount_LDADD = tests/crash/libsim.la brickfs/libcore.la
EXTRA_PROGRAMS += tests/fuzz/fuzz_mount_libfuzzer
tests_fuzz_fuzz_mount_libfuzzer_SOURCES = tests/fuzz/fuzz_mount.c tests/fuzz/fuzz.h \
	$(brickfs_libcore_la_SOURCES) $(tests_crash_libsim_la_SOURCES)
tests_fuzz_fuzz_mount_libfuzzer_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(XXHASH_CFLAGS)
tests_fuzz_fuzz_mount_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_mount_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_mount_libfuzzer_LDADD = common/libbrick.la $(XXHASH_LIBS)

check_PROGRAMS += tests/fuzz/fuzz_lane
TESTS += tests/fuzz/fuzz_lane
tests_fuzz_fuzz_lane_SOURCES = tests/fuzz/fuzz_lane.c $(fuzz_driver)
tests_fuzz_fuzz_lane_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target
tests_fuzz_fuzz_lane_LDADD = target/libserver.la
EXTRA_PROGRAMS += tests/fuzz/fuzz_lane_libfuzzer
tests_fuzz_fuzz_lane_libfuzzer_SOURCES = tests/fuzz/fuzz_lane.c tests/fuzz/fuzz.h \
	$(target_libserver_la_SOURCES) $(target_libstore_la_SOURCES) $(common_libcommon_la_SOURCES)
tests_fuzz_fuzz_lane_libfuzzer_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target $(PMEM2_CFLAGS) $(XXHASH_CFLAGS) \
	$(IBVERBS_CFLAGS) $(RDMACM_CFLAGS)
tests_fuzz_fuzz_lane_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_lane_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_lane_libfuzzer_LDADD = $(PMEM2_LIBS) $(XXHASH_LIBS) $(RDMACM_LIBS) $(IBVERBS_LIBS) $(PTHREAD_LIBS)

# common/libbrick.la exports only its interface; what the brick's side of the protocol needs is in libcommon.
check_PROGRAMS += tests/fuzz/fuzz_peer
TESTS += tests/fuzz/fuzz_peer
tests_fuzz_fuzz_peer_SOURCES = tests/fuzz/fuzz_peer.c $(fuzz_driver)
tests_fuzz_fuzz_peer_LDADD = common/libbrick.la common/libcommon.la $(PTHREAD_LIBS)
EXTRA_PROGRAMS += tests/fuzz/fuzz_peer_libfuzzer
tests_fuzz_fuzz_peer_libfuzzer_SOURCES = tests/fuzz/fuzz_peer.c tests/fuzz/fuzz.h \
	$(common_libbrick_la_SOURCES) $(common_libcommon_la_SOURCES)
tests_fuzz_fuzz_peer_libfuzzer_CPPFLAGS = $(AM_CPPFLAGS) $(IBVERBS_CFLAGS) $(RDMACM_CFLAGS)
tests_fuzz_fuzz_peer_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_peer_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_peer_libfuzzer_LDADD = $(RDMACM_LIBS) $(IBVERBS_LIBS) $(PTHREAD_LIBS)

check_PROGRAMS += tests/fuzz/fuzz_pool
TESTS += tests/fuzz/fuzz_pool
tests_fuzz_fuzz_pool_SOURCES = tests/fuzz/fuzz_pool.c $(fuzz_driver)
tests_fuzz_fuzz_pool_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target $(XXHASH_CFLAGS)
tests_fuzz_fuzz_pool_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=report
tests_fuzz_fuzz_pool_LDADD = target/libserver.la
EXTRA_PROGRAMS += tests/fuzz/fuzz_pool_libfuzzer
tests_fuzz_fuzz_pool_libfuzzer_SOURCES = tests/fuzz/fuzz_pool.c tests/fuzz/fuzz.h \
	$(target_libserver_la_SOURCES) $(target_libstore_la_SOURCES) $(common_libcommon_la_SOURCES)
tests_fuzz_fuzz_pool_libfuzzer_CPPFLAGS = $(tests_fuzz_fuzz_lane_libfuzzer_CPPFLAGS)
tests_fuzz_fuzz_pool_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_pool_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS) -Wl,--wrap=report
tests_fuzz_fuzz_pool_libfuzzer_LDADD = $(tests_fuzz_fuzz_lane_libfuzzer_LDADD)

check_PROGRAMS += tests/fuzz/fuzz_text
TESTS += tests/fuzz/fuzz_text
tests_fuzz_fuzz_text_SOURCES = tests/fuzz/fuzz_text.c $(fuzz_driver)
tests_fuzz_fuzz_text_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
tests_fuzz_fuzz_text_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=report
tests_fuzz_fuzz_text_LDADD = brickfs/libfront.la brickfs/libcore.la
EXTRA_PROGRAMS += tests/fuzz/fuzz_text_libfuzzer
tests_fuzz_fuzz_text_libfuzzer_SOURCES = tests/fuzz/fuzz_text.c tests/fuzz/fuzz.h \
	brickfs/endpoints.c brickfs/mount-options.c common/endpoint.c common/report.c
tests_fuzz_fuzz_text_libfuzzer_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(FUSE_CFLAGS)
tests_fuzz_fuzz_text_libfuzzer_CFLAGS = $(AM_CFLAGS) $(FUZZ_FLAGS)
tests_fuzz_fuzz_text_libfuzzer_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_FLAGS) -Wl,--wrap=report
tests_fuzz_fuzz_text_libfuzzer_LDADD = $(FUSE_LIBS)

dist_check_SCRIPTS += tests/fuzz/corpus.sh
TESTS += tests/fuzz/corpus.sh
EXTRA_DIST += tests/fuzz/README.md tests/fuzz/corpus tests/fuzz/fuzz.sh

# "make fuzz": each libFuzzer target for FUZZ_SECONDS on its samples and its kept corpus; what is found fails it, and is
# shown.  The build directory may be anybody's: only these programs are made with FUZZ_CC.  FUZZ_TARGETS="mount lane": only those.
FUZZ_CC = clang
FUZZ_SECONDS = 20
FUZZ_TARGETS = $(fuzz_targets)
.PHONY: fuzz fuzz-programs
fuzz-programs:
	$(MAKE) $(AM_MAKEFLAGS) $(FUZZ_TARGETS:%=tests/fuzz/fuzz_%)
	$(MAKE) $(AM_MAKEFLAGS) CC="$(FUZZ_CC)" $(FUZZ_TARGETS:%=tests/fuzz/fuzz_%_libfuzzer)
fuzz: fuzz-programs
	srcdir=$(srcdir) FUZZ_SECONDS=$(FUZZ_SECONDS) bash $(srcdir)/tests/fuzz/fuzz.sh $(FUZZ_TARGETS)
CLEANFILES += $(fuzz_targets:%=tests/fuzz/fuzz_%_libfuzzer)
clean-local: clean-fuzz
.PHONY: clean-fuzz
clean-fuzz:
	rm -rf tests/fuzz/libfuzzer
