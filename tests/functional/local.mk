# Real daemons, real mounts. A name is TEST-TRANSPORT[-BRICKS[-mapsN]], see run.sh; "bash run.sh NAME" runs one by hand.
FUNCTIONAL = \
	calls-tcp calls-unix brickctl-tcp brickctl-unix \
	libbrick-tcp libbrick-unix \
	mount-tcp-3 mount-unix \
	tree-tcp-1 tree-unix-1 tree-tcp-3 tree-unix-3 tree-tcp-1-maps8 tree-unix-3-maps8 \
	posix-tcp posix-unix-3-maps8 \
	git-tcp-3 git-unix \
	build-unix \
	sqlite-tcp sqlite-unix-3 \
	fio-tcp fio-unix-3-maps8 \
	stress-tcp-3 stress-unix \
	killmount-tcp-3 killmount-unix-1 \
	killbrick-tcp killbrick-unix-3 \
	fault-tcp fault-unix-3 \
	full-tcp full-unix \
	hundred-tcp hundred-unix \
	second-tcp second-unix \
	refuse-tcp-3 refuse-unix-3 \
	fence-tcp

FUNCTIONAL_RUNS = $(FUNCTIONAL:%=tests/functional/%.run)
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
	tests/functional/refuse.sh tests/functional/fence.sh

# libbrick against a real brickd, the example of brick(3), and what the library exports.
check_PROGRAMS += tests/functional/libbrick-real tests/functional/brick-example
tests_functional_libbrick_real_SOURCES = tests/functional/libbrick-real.c
tests_functional_libbrick_real_LDADD = common/libbrick.la
tests_functional_brick_example_SOURCES = tests/functional/brick-example.c
tests_functional_brick_example_LDADD = common/libbrick.la
dist_check_SCRIPTS += tests/functional/libbrick-shape.sh
TESTS += tests/functional/libbrick-shape.sh
EXTRA_DIST += tests/functional/libbrick.sh
