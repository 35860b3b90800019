# The store: pool, idmap, tier.
STORE_TEST_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target -I$(top_srcdir)/tests/unit $(PMEM2_CFLAGS) $(XXHASH_CFLAGS) $(CHECK_CFLAGS)
STORE_TEST_LIBS = target/libstore.la $(CHECK_LIBS) $(XXHASH_LIBS)
check_PROGRAMS += tests/unit/test_pool
TESTS += tests/unit/test_pool
tests_unit_test_pool_SOURCES = tests/unit/test_pool.c tests/unit/pool_scratch.h
tests_unit_test_pool_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_pool_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_pool_sync
TESTS += tests/unit/test_pool_sync
tests_unit_test_pool_sync_SOURCES = tests/unit/test_pool_sync.c tests/unit/pool_scratch.h
tests_unit_test_pool_sync_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_pool_sync_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_pool_damage
TESTS += tests/unit/test_pool_damage
tests_unit_test_pool_damage_SOURCES = tests/unit/test_pool_damage.c tests/unit/pool_scratch.h
tests_unit_test_pool_damage_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_pool_damage_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_idmap
TESTS += tests/unit/test_idmap
tests_unit_test_idmap_SOURCES = tests/unit/test_idmap.c
tests_unit_test_idmap_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_idmap_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_tier
TESTS += tests/unit/test_tier
tests_unit_test_tier_SOURCES = tests/unit/test_tier.c tests/unit/pool_scratch.h
tests_unit_test_tier_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_tier_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_tier_cache
TESTS += tests/unit/test_tier_cache
tests_unit_test_tier_cache_SOURCES = tests/unit/test_tier_cache.c tests/unit/tier_scratch.h tests/unit/pool_scratch.h
tests_unit_test_tier_cache_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_tier_cache_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_tier_kill
TESTS += tests/unit/test_tier_kill
tests_unit_test_tier_kill_SOURCES = tests/unit/test_tier_kill.c tests/unit/tier_scratch.h tests/unit/pool_scratch.h
tests_unit_test_tier_kill_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_tier_kill_LDADD = $(STORE_TEST_LIBS)
check_PROGRAMS += tests/unit/test_pool_crash
TESTS += tests/unit/test_pool_crash
tests_unit_test_pool_crash_SOURCES = tests/unit/test_pool_crash.c tests/unit/pool_scratch.h
tests_unit_test_pool_crash_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_pool_crash_LDADD = $(STORE_TEST_LIBS)

# Who takes how many places, and whose turn it is.
check_PROGRAMS += tests/unit/test_peers
TESTS += tests/unit/test_peers
tests_unit_test_peers_SOURCES = tests/unit/test_peers.c
tests_unit_test_peers_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_peers_LDADD = target/libserver.la $(STORE_TEST_LIBS)

check_PROGRAMS += tests/unit/test_worker
TESTS += tests/unit/test_worker
tests_unit_test_worker_SOURCES = tests/unit/test_worker.c
tests_unit_test_worker_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_worker_LDADD = target/libserver.la $(STORE_TEST_LIBS)

# The server: sessions, lanes, locks; a hostile client.
check_PROGRAMS += tests/unit/test_server
TESTS += tests/unit/test_server
tests_unit_test_server_SOURCES = tests/unit/test_server.c tests/unit/raw_client.h tests/unit/pool_scratch.h
tests_unit_test_server_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_server_LDADD = target/libserver.la $(STORE_TEST_LIBS)

# What carries a lane.
check_PROGRAMS += tests/unit/test_conn
TESTS += tests/unit/test_conn
tests_unit_test_conn_SOURCES = tests/unit/test_conn.c
tests_unit_test_conn_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_conn_LDADD = target/libserver.la $(STORE_TEST_LIBS)

check_PROGRAMS += tests/unit/test_grants
TESTS += tests/unit/test_grants
tests_unit_test_grants_SOURCES = tests/unit/test_grants.c tests/unit/raw_client.h tests/unit/pool_scratch.h
tests_unit_test_grants_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_grants_LDADD = target/libserver.la $(STORE_TEST_LIBS)

check_PROGRAMS += tests/unit/test_limits
TESTS += tests/unit/test_limits
tests_unit_test_limits_SOURCES = tests/unit/test_limits.c tests/unit/raw_client.h tests/unit/pool_scratch.h
tests_unit_test_limits_CPPFLAGS = $(STORE_TEST_CPPFLAGS)
tests_unit_test_limits_LDADD = target/libserver.la $(STORE_TEST_LIBS)
