# The core: everything of the filesystem but libfuse. Linked into the programs and the tests.
noinst_LTLIBRARIES += brickfs/libcore.la
brickfs_libcore_la_SOURCES = \
	brickfs/backend.h brickfs/backend-brick.c \
	brickfs/volume.h brickfs/volume.c \
	brickfs/core.h
brickfs_libcore_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(XXHASH_CFLAGS)
brickfs_libcore_la_LIBADD = common/libbrick.la $(XXHASH_LIBS)
