# Real daemons, real mounts. A name is TEST-TRANSPORT[-BRICKS[-mapsN]], see run.sh; "bash run.sh NAME" runs one by hand.
FUNCTIONAL_RUNS = \
	tests/functional/calls-tcp.run \
	tests/functional/calls-unix.run \
	tests/functional/brickctl-tcp.run \
	tests/functional/brickctl-unix.run \
	tests/functional/libbrick-tcp.run \
	tests/functional/libbrick-unix.run \
	tests/functional/mount-tcp-3.run \
	tests/functional/mount-unix.run \
	tests/functional/tree-tcp-1.run \
	tests/functional/tree-unix-1.run \
	tests/functional/tree-tcp-3.run \
	tests/functional/tree-unix-3.run \
	tests/functional/tree-tcp-1-maps8.run \
	tests/functional/tree-unix-3-maps8.run \
	tests/functional/posix-tcp.run \
	tests/functional/posix-unix-3-maps8.run \
	tests/functional/git-tcp-3.run \
	tests/functional/git-unix.run \
	tests/functional/build-unix.run \
	tests/functional/sqlite-tcp.run \
	tests/functional/sqlite-unix-3.run \
	tests/functional/fio-tcp.run \
	tests/functional/fio-unix-3-maps8.run \
	tests/functional/stress-tcp-3.run \
	tests/functional/stress-unix.run \
	tests/functional/killmount-tcp-3.run \
	tests/functional/killmount-unix-1.run \
	tests/functional/killbrick-tcp.run \
	tests/functional/killbrick-unix-3.run \
	tests/functional/fault-tcp.run \
	tests/functional/fault-unix-3.run \
	tests/functional/cached-tcp.run \
	tests/functional/cached-unix.run \
	tests/functional/full-tcp.run \
	tests/functional/full-unix.run \
	tests/functional/hundred-tcp.run \
	tests/functional/hundred-unix.run \
	tests/functional/second-tcp.run \
	tests/functional/second-unix.run \
	tests/functional/refuse-tcp-3.run \
	tests/functional/refuse-unix-3.run \
	tests/functional/fence-tcp.run \
	tests/functional/fsck-tcp-3.run \
	tests/functional/fsck-unix-1.run \
	tests/functional/refused-tcp.run \
	tests/functional/load-tcp.run \
	tests/functional/goingdown-tcp.run \
	tests/functional/goingdown-unix-3.run

TESTS += $(FUNCTIONAL_RUNS)
TEST_EXTENSIONS = .run
RUN_LOG_COMPILER = env SRC='$(abs_top_srcdir)' BUILD='$(abs_top_builddir)' bash $(srcdir)/tests/functional/run.sh
CLEANFILES += $(FUNCTIONAL_RUNS)

# The file is only the name that automake's test driver asks for.
$(FUNCTIONAL_RUNS):
	@$(MKDIR_P) tests/functional && : >$@

EXTRA_DIST += \
	tests/README.md \
	tests/functional/run.sh tests/functional/lib.sh tests/functional/posix.py \
	tests/functional/calls.sh tests/functional/brickctl.sh tests/functional/mount.sh tests/functional/tree.sh tests/functional/posix.sh \
	tests/functional/git.sh tests/functional/build.sh tests/functional/sqlite.sh tests/functional/fio.sh \
	tests/functional/stress.sh tests/functional/killmount.sh tests/functional/killbrick.sh \
	tests/functional/fault.sh tests/functional/full.sh tests/functional/hundred.sh tests/functional/second.sh \
	tests/functional/refuse.sh tests/functional/fence.sh tests/functional/fsck.sh tests/functional/refused.sh \
	tests/functional/load.sh tests/functional/nvdimm.sh tests/functional/flush.sh tests/functional/verbs.sh tests/functional/cached.sh \
	tests/functional/goingdown.sh

# libbrick against a real brickd, the example of brick(3), and what the library exports.
check_PROGRAMS += tests/functional/libbrick-real tests/functional/brick-example
tests_functional_libbrick_real_SOURCES = tests/functional/libbrick-real.c
tests_functional_libbrick_real_LDADD = common/libbrick.la
tests_functional_brick_example_SOURCES = tests/functional/brick-example.c
tests_functional_brick_example_LDADD = common/libbrick.la
dist_check_SCRIPTS += tests/functional/libbrick-shape.sh
TESTS += tests/functional/libbrick-shape.sh
EXTRA_DIST += tests/functional/libbrick.sh

# The benchmark of the transport, persistence proven by killing, ten sessions at once.
FUNCTIONAL_RUNS += \
	tests/functional/bench-tcp.run tests/functional/bench-unix.run \
	tests/functional/persist-tcp.run tests/functional/persist-unix.run \
	tests/functional/ten-tcp.run tests/functional/ten-unix.run
EXTRA_DIST += tests/functional/bench.sh tests/functional/persist.sh tests/functional/ten.sh
check_PROGRAMS += tests/functional/persist tests/functional/ten
tests_functional_persist_SOURCES = tests/functional/persist.c \
	tests/functional/persist-work.h tests/functional/persist-work.c tests/functional/persist-model.h tests/functional/persist-model.c \
	tests/functional/daemon.h tests/functional/daemon.c
tests_functional_persist_LDADD = common/libbrick.la
tests_functional_ten_SOURCES = tests/functional/ten.c
tests_functional_ten_LDADD = common/libbrick.la

# A workload that knows what must be there, while everything is killed at random.
FUNCTIONAL_RUNS += tests/functional/soak-tcp-3.run
EXTRA_DIST += tests/functional/soak.sh
check_PROGRAMS += tests/functional/soak
tests_functional_soak_SOURCES = tests/functional/soak.h tests/functional/soak.c tests/functional/soak-work.c tests/functional/soak-settle.c \
	tests/functional/soak-model.h tests/functional/soak-model.c tests/functional/soak-bytes.h tests/functional/soak-bytes.c

# Clients that no brick should suffer from.
FUNCTIONAL_RUNS += tests/functional/hostile-tcp.run tests/functional/hostile-unix.run
EXTRA_DIST += tests/functional/hostile.sh
check_PROGRAMS += tests/functional/hostile
tests_functional_hostile_SOURCES = tests/functional/hostile.c
tests_functional_hostile_LDADD = common/libbrick.la common/libcommon.la

# A proxy in front of a brick that alters what it says.
FUNCTIONAL_RUNS += tests/functional/badbrick-tcp-2.run tests/functional/badbrick-unix-2.run
EXTRA_DIST += tests/functional/badbrick.sh
check_PROGRAMS += tests/functional/badbrick
tests_functional_badbrick_SOURCES = tests/functional/badbrick.h tests/functional/badbrick.c \
	tests/functional/badbrick-cases.h tests/functional/badbrick-cases.c tests/functional/badbrick-any.c tests/functional/badbrick-lies.c
tests_functional_badbrick_LDADD = common/libcommon.la

# Bricks that are late, that the network has taken away, that are full: beside somebody who works.
FUNCTIONAL_RUNS += tests/functional/late-tcp-3.run tests/functional/late-unix.run tests/functional/halfopen-tcp-2.run \
	tests/functional/uneven-tcp-3.run
EXTRA_DIST += tests/functional/user.sh tests/functional/late.sh tests/functional/halfopen.sh tests/functional/uneven.sh
