# wire, endpoint, report: what both sides use.
noinst_LTLIBRARIES += common/libcommon.la
common_libcommon_la_SOURCES = \
	common/wire.h common/wire.c \
	common/endpoint.h common/endpoint.c \
	common/report.h common/report.c

# libbrick, the initiator library.
lib_LTLIBRARIES += common/libbrick.la
