# Measuring; nothing of it is a test with a limit. "make bench" builds it; make check runs it once, short, to see that it works.
check_PROGRAMS += tests/bench/transport
tests_bench_transport_SOURCES = \
	tests/bench/transport.c tests/bench/bench.h tests/bench/measure.c tests/bench/initiator.c \
	tests/bench/baseline.c tests/bench/perftest.c \
	tests/functional/daemon.h tests/functional/daemon.c
tests_bench_transport_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
tests_bench_transport_LDADD = common/libbrick.la $(JANSSON_LIBS) -lm

bench: tests/bench/transport$(EXEEXT) target/brickd$(EXEEXT)
.PHONY: bench
EXTRA_DIST += tests/bench/README.md
