# The store: pool, idmap, tier.
STORE_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target -I$(top_srcdir)/tests/unit $(PMEM2_CFLAGS) $(XXHASH_CFLAGS) $(CHECK_CFLAGS)
STORE_TEST_LIBS = target/libstore.la $(CHECK_LIBS) $(XXHASH_LIBS)
check_PROGRAMS += tests/unit/test_pool
TESTS += tests/unit/test_pool
tests_unit_test_pool_SOURCES = tests/unit/test_pool.c tests/unit/pool_scratch.h
tests_unit_test_pool_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_pool_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_pool_damage
TESTS += tests/unit/test_pool_damage
tests_unit_test_pool_damage_SOURCES = tests/unit/test_pool_damage.c tests/unit/pool_scratch.h
tests_unit_test_pool_damage_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_pool_damage_LDADD = $(STORE_TEST_LIBS)
