# The simulated brick: linked into the unit tests of the core and the crash tests.
check_LTLIBRARIES += tests/crash/libsim.la
tests_crash_libsim_la_SOURCES = \
	tests/crash/simbrick.h tests/crash/simbrick.c \
	tests/crash/simbackend.c tests/crash/siminternal.h \
	tests/crash/simstate.h tests/crash/simstate.c
tests_crash_libsim_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(XXHASH_CFLAGS)
tests_crash_libsim_la_LIBADD = $(XXHASH_LIBS)

# The oracle, and the driver of the crash tests.
crash_driver = \
	tests/crash/util.h \
	tests/crash/crash.c tests/crash/teeth.c \
	tests/crash/scenario.h tests/crash/scenario.c \
	tests/crash/explore.h tests/crash/explore.c \
	tests/crash/world.h tests/crash/world.c \
	tests/crash/workload.h tests/crash/workload.c tests/crash/workload-run.c \
	tests/crash/oracle.h tests/crash/oracle-impl.h tests/crash/oracle.c tests/crash/oracle-check.c \
	tests/crash/tree.h tests/crash/tree.c tests/crash/tree-compare.c

# What the oracle expects, compared with what Linux does.
check_PROGRAMS += tests/crash/oracle-host
tests_crash_oracle_host_SOURCES = $(crash_driver) tests/crash/hostcore.c
tests_crash_oracle_host_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
tests_crash_oracle_host_LDADD = tests/crash/libsim.la
dist_check_SCRIPTS += tests/crash/oracle-host.sh
TESTS += tests/crash/oracle-host.sh
EXTRA_DIST += tests/crash/README.md

check_PROGRAMS += tests/crash/oracle-test
tests_crash_oracle_test_SOURCES = \
	tests/crash/oracle-test.c tests/crash/util.h \
	tests/crash/oracle.h tests/crash/oracle-impl.h tests/crash/oracle.c tests/crash/oracle-check.c \
	tests/crash/tree.h tests/crash/tree-compare.c
tests_crash_oracle_test_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_crash_oracle_test_LDADD = $(CHECK_LIBS)
TESTS += tests/crash/oracle-test

# The core under the oracle's eyes, crashed at every event; wrap: blockmem.c says why.
crash_wrap = -Wl,--wrap=mmap -Wl,--wrap=munmap
check_PROGRAMS += tests/crash/crash
tests_crash_crash_SOURCES = $(crash_driver) tests/crash/blockmem.c
tests_crash_crash_LDFLAGS = $(AM_LDFLAGS) $(crash_wrap)
tests_crash_crash_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
tests_crash_crash_LDADD = tests/crash/libsim.la brickfs/libcore.la

# The same over a core that has switches for faults (brickfs/mutate.h), and the random damage, too.
check_LTLIBRARIES += tests/crash/libmutants.la
tests_crash_libmutants_la_SOURCES = $(brickfs_libcore_la_SOURCES) tests/crash/mutate.c
tests_crash_libmutants_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(XXHASH_CFLAGS) -DBRICKFS_MUTATIONS
tests_crash_libmutants_la_LIBADD = common/libbrick.la $(XXHASH_LIBS)
check_PROGRAMS += tests/crash/mutants tests/crash/flip-mutants
tests_crash_mutants_SOURCES = $(crash_driver) tests/crash/blockmem.c
tests_crash_mutants_LDFLAGS = $(AM_LDFLAGS) $(crash_wrap)
tests_crash_mutants_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -DBRICKFS_MUTATIONS
tests_crash_mutants_LDADD = tests/crash/libsim.la tests/crash/libmutants.la
tests_crash_flip_mutants_SOURCES = tests/unit/test_flips.c
tests_crash_flip_mutants_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/unit $(CHECK_CFLAGS)
tests_crash_flip_mutants_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la tests/crash/libmutants.la $(CHECK_LIBS)

dist_check_SCRIPTS += tests/crash/crash-live.sh tests/crash/crash-classic.sh tests/crash/crash-short.sh tests/crash/crash-random.sh tests/crash/crash-teeth.sh tests/crash/crash-flips.sh tests/crash/crash-repair.sh tests/crash/crash-reuse.sh
TESTS += tests/crash/crash-live.sh tests/crash/crash-classic.sh tests/crash/crash-short.sh tests/crash/crash-random.sh tests/crash/crash-teeth.sh tests/crash/crash-flips.sh tests/crash/crash-repair.sh tests/crash/crash-reuse.sh
