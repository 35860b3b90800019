# The simulated brick: linked into the unit tests of the core and the crash tests.
check_LTLIBRARIES += tests/crash/libsim.la
tests_crash_libsim_la_SOURCES = \
	tests/crash/simbrick.h tests/crash/simbrick.c \
	tests/crash/simbackend.c tests/crash/siminternal.h \
	tests/crash/simstate.h tests/crash/simstate.c
tests_crash_libsim_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(XXHASH_CFLAGS)
tests_crash_libsim_la_LIBADD = $(XXHASH_LIBS)
