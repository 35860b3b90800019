# brickd, the target.
sbin_PROGRAMS += target/brickd
target_brickd_SOURCES = \
	target/pool.h target/pool.c \
	target/idmap.h target/idmap.c \
	target/tier.h target/tier.c
target_brickd_CPPFLAGS = $(AM_CPPFLAGS) $(PMEM2_CFLAGS)
target_brickd_LDADD = common/libcommon.la $(PMEM2_LIBS)
