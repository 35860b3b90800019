# What the programs over the core decide by themselves.
FRONT_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
FRONT_TEST_LIBS = brickfs/libfront.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_mount_options tests/unit/test_mountpoint
TESTS += tests/unit/test_mount_options tests/unit/test_mountpoint
tests_unit_test_mount_options_SOURCES = tests/unit/test_mount_options.c
tests_unit_test_mount_options_CPPFLAGS = $(FRONT_TEST_CPPFLAGS)
tests_unit_test_mount_options_LDADD = $(FRONT_TEST_LIBS)
tests_unit_test_mountpoint_SOURCES = tests/unit/test_mountpoint.c
tests_unit_test_mountpoint_CPPFLAGS = $(FRONT_TEST_CPPFLAGS)
tests_unit_test_mountpoint_LDADD = $(FRONT_TEST_LIBS)
