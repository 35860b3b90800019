# The volume, over simulated bricks.
check_PROGRAMS += tests/unit/test_volume
TESTS += tests/unit/test_volume
tests_unit_test_volume_SOURCES = tests/unit/test_volume.c tests/unit/sim_volume.h
tests_unit_test_volume_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_volume_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_volume_away
TESTS += tests/unit/test_volume_away
tests_unit_test_volume_away_SOURCES = tests/unit/test_volume_away.c tests/unit/sim_volume.h
tests_unit_test_volume_away_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_volume_away_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_volume_hostile
TESTS += tests/unit/test_volume_hostile
tests_unit_test_volume_hostile_SOURCES = tests/unit/test_volume_hostile.c
tests_unit_test_volume_hostile_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_volume_hostile_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_volume_recall
TESTS += tests/unit/test_volume_recall
tests_unit_test_volume_recall_SOURCES = tests/unit/test_volume_recall.c
tests_unit_test_volume_recall_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_volume_recall_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_method
TESTS += tests/unit/test_method
tests_unit_test_method_SOURCES = tests/unit/test_method.c
tests_unit_test_method_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_method_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_simbrick
TESTS += tests/unit/test_simbrick
tests_unit_test_simbrick_SOURCES = tests/unit/test_simbrick.c
tests_unit_test_simbrick_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_simbrick_LDADD = tests/crash/libsim.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_core_threads
tests_unit_test_core_threads_SOURCES = tests/unit/test_core_threads.c
tests_unit_test_core_threads_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_core_threads_LDADD = tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_core_threads

check_PROGRAMS += tests/unit/test_format
tests_unit_test_format_SOURCES = tests/unit/test_format.c
tests_unit_test_format_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_format_LDADD = brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_format

# The core by hand (no threads) over simulated bricks.
check_LTLIBRARIES += tests/unit/libsimfs.la
tests_unit_libsimfs_la_SOURCES = tests/unit/sim_fs.c tests/unit/sim_fs.h tests/unit/intact.c tests/unit/intact.h
tests_unit_libsimfs_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)

check_PROGRAMS += tests/unit/test_replay
tests_unit_test_replay_SOURCES = tests/unit/test_replay.c
tests_unit_test_replay_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_replay_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_replay

check_PROGRAMS += tests/unit/test_forged
tests_unit_test_forged_SOURCES = tests/unit/test_forged.c
tests_unit_test_forged_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_forged_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_forged
check_PROGRAMS += tests/unit/test_adrift
tests_unit_test_adrift_SOURCES = tests/unit/test_adrift.c
tests_unit_test_adrift_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_adrift_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_adrift
check_PROGRAMS += tests/unit/test_rebuild
tests_unit_test_rebuild_SOURCES = tests/unit/test_rebuild.c
tests_unit_test_rebuild_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_rebuild_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_rebuild
check_PROGRAMS += tests/unit/test_flips
tests_unit_test_flips_SOURCES = tests/unit/test_flips.c
tests_unit_test_flips_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_flips_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_flips

check_PROGRAMS += tests/unit/test_orders
tests_unit_test_orders_SOURCES = tests/unit/test_orders.c tests/unit/orders.h
tests_unit_test_orders_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_orders_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
TESTS += tests/unit/test_orders

check_PROGRAMS += tests/unit/test_orders_full
tests_unit_test_orders_full_SOURCES = tests/unit/test_orders_full.c tests/unit/orders.h
tests_unit_test_orders_full_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs -I$(top_srcdir)/tests/crash $(CHECK_CFLAGS)
tests_unit_test_orders_full_LDADD = brickfs/libcore.la tests/crash/libsim.la $(CHECK_LIBS)
TESTS += tests/unit/test_orders_full

check_PROGRAMS += tests/unit/test_space
tests_unit_test_space_SOURCES = tests/unit/test_space.c
tests_unit_test_space_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_space_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_space

check_PROGRAMS += tests/unit/test_fsck
tests_unit_test_fsck_SOURCES = tests/unit/test_fsck.c
tests_unit_test_fsck_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_fsck_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la tests/damage/libdamage.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_fsck

check_PROGRAMS += tests/unit/test_repair
tests_unit_test_repair_SOURCES = tests/unit/test_repair.c
tests_unit_test_repair_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_repair_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_repair

dist_check_SCRIPTS += tests/unit/problems.sh
TESTS += tests/unit/problems.sh

check_PROGRAMS += tests/unit/test_shutdown
tests_unit_test_shutdown_SOURCES = tests/unit/test_shutdown.c
tests_unit_test_shutdown_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_shutdown_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_shutdown

check_PROGRAMS += tests/unit/test_blame
tests_unit_test_blame_SOURCES = tests/unit/test_blame.c
tests_unit_test_blame_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_blame_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_blame

# Every allocation of what is linked in, the core's, can be made to fail.
check_PROGRAMS += tests/unit/test_nomem
tests_unit_test_nomem_SOURCES = tests/unit/test_nomem.c tests/unit/fail_memory.h
tests_unit_test_nomem_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(CHECK_CFLAGS)
tests_unit_test_nomem_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup,--wrap=free \
	-Wl,--wrap=mmap,--wrap=vasprintf,--wrap=asprintf,--wrap=open_memstream
tests_unit_test_nomem_LDADD = tests/unit/libsimfs.la tests/crash/libsim.la brickfs/libcore.la $(CHECK_LIBS)
TESTS += tests/unit/test_nomem
