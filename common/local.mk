# wire, endpoint, report: what both sides use.
noinst_LTLIBRARIES += common/libcommon.la
common_libcommon_la_SOURCES = \
	common/wire.h common/wire-cursor.h common/wire.c \
	common/endpoint.h common/endpoint.c \
	common/report.h common/report.c

# libbrick, the initiator library.
lib_LTLIBRARIES += common/libbrick.la
common_libbrick_la_SOURCES = \
	common/brick.h \
	common/brick-error.h common/brick-error.c \
	common/session.h common/session.c common/lane.c common/calls.c common/handles.c \
	common/transport.h common/transport-tcp.c common/transport-local.c \
	common/stream.h common/stream.c \
	common/transport-verbs.h common/transport-verbs.c common/transport-verbs-connect.c \
	common/transport-verbs-domain.c common/transport-verbs-memory.c
common_libbrick_la_CFLAGS = $(AM_CFLAGS) $(IBVERBS_CFLAGS) $(RDMACM_CFLAGS)
common_libbrick_la_LIBADD = common/libcommon.la $(RDMACM_LIBS) $(IBVERBS_LIBS) $(PTHREAD_LIBS)
# The soname stays at 0 while the version is 0.x: the interface may change with a release.
common_libbrick_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -no-undefined \
	-Wl,--version-script=$(top_srcdir)/common/libbrick.map
common_libbrick_la_DEPENDENCIES = common/libcommon.la common/libbrick.map
include_HEADERS += common/brick.h
pkgconfig_DATA += common/brick.pc
EXTRA_DIST += common/libbrick.map
