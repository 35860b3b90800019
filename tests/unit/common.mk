# Unit tests of common/.
check_PROGRAMS += tests/unit/test_wire tests/unit/test_endpoint
TESTS += tests/unit/test_wire tests/unit/test_endpoint

tests_unit_test_wire_SOURCES = tests/unit/test_wire.c tests/fuzz/wire_cases.h tests/fuzz/wire_cases.c
tests_unit_test_wire_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_wire_LDADD = common/libcommon.la $(CHECK_LIBS)

tests_unit_test_endpoint_SOURCES = tests/unit/test_endpoint.c
tests_unit_test_endpoint_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_endpoint_LDADD = common/libcommon.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_libbrick
TESTS += tests/unit/test_libbrick
tests_unit_test_libbrick_SOURCES = tests/unit/test_libbrick.c tests/unit/libbrick_lane.h tests/unit/fake_brick.h tests/unit/fake_brick.c
tests_unit_test_libbrick_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_libbrick_LDADD = common/libbrick.la common/libcommon.la $(CHECK_LIBS)
check_PROGRAMS += tests/unit/test_libbrick_faults
TESTS += tests/unit/test_libbrick_faults
tests_unit_test_libbrick_faults_SOURCES = tests/unit/test_libbrick_faults.c tests/unit/libbrick_lane.h tests/unit/fake_brick.h tests/unit/fake_brick.c
tests_unit_test_libbrick_faults_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_libbrick_faults_LDADD = common/libbrick.la common/libcommon.la $(CHECK_LIBS)

# What libbrick does not export is compiled into its test.
check_PROGRAMS += tests/unit/test_stream
TESTS += tests/unit/test_stream
tests_unit_test_stream_SOURCES = tests/unit/test_stream.c common/stream.c common/brick-error.c
tests_unit_test_stream_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_stream_LDADD = common/libcommon.la $(CHECK_LIBS)

check_PROGRAMS += tests/unit/test_handles
TESTS += tests/unit/test_handles
tests_unit_test_handles_SOURCES = tests/unit/test_handles.c common/handles.c common/brick-error.c
tests_unit_test_handles_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS)
tests_unit_test_handles_LDADD = common/libcommon.la $(CHECK_LIBS)
