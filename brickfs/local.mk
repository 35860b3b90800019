# The core: everything of the filesystem but libfuse. Linked into the programs and the tests.
noinst_LTLIBRARIES += brickfs/libcore.la
brickfs_libcore_la_SOURCES = \
	brickfs/backend.h brickfs/backend-brick.c \
	brickfs/volume.h brickfs/volume-internal.h brickfs/volume.c \
	brickfs/volume-list.c brickfs/volume-ids.c brickfs/volume-ranges.c brickfs/volume-buffers.c \
	brickfs/volume-map.c brickfs/volume-recall.c brickfs/volume-blame.c brickfs/volume-io.c \
	brickfs/volume-alloc.c brickfs/volume-reconnect.c \
	brickfs/core.h brickfs/fs.h brickfs/file.h brickfs/mutate.h \
	brickfs/format.h brickfs/format.c \
	brickfs/problem.c brickfs/ns.c brickfs/log.c \
	brickfs/space.c brickfs/reclaim.c \
	brickfs/evacuate.c brickfs/room.c brickfs/background.c \
	brickfs/shape.c brickfs/file.c brickfs/truncate.c \
	brickfs/ops.c brickfs/xattr.c \
	brickfs/replay.c brickfs/apply.c brickfs/settle.c \
	brickfs/lostfound.c brickfs/repair.c brickfs/compare.c brickfs/stale.c brickfs/adrift.c brickfs/rebuild.c \
	brickfs/checkpoint.c \
	brickfs/mount.c brickfs/super.c brickfs/shutdown.c brickfs/make.c brickfs/check.c brickfs/dump.c
brickfs_libcore_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(XXHASH_CFLAGS)
brickfs_libcore_la_LIBADD = common/libbrick.la $(XXHASH_LIBS)

# The programs over the core.
noinst_LTLIBRARIES += brickfs/libfront.la
brickfs_libfront_la_SOURCES = \
	brickfs/endpoints.c \
	brickfs/front.h brickfs/front.c brickfs/front-loop.c brickfs/front-name.c brickfs/front-file.c brickfs/front-going.c \
	brickfs/mount-options.h brickfs/mount-options.c \
	brickfs/mountpoint.h brickfs/mountpoint.c
brickfs_libfront_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(FUSE_CFLAGS) $(MOUNT_CFLAGS)
brickfs_libfront_la_LIBADD = common/libcommon.la $(FUSE_LIBS) $(MOUNT_LIBS)

sbin_PROGRAMS += brickfs/umount.fuse.brickfs
brickfs_umount_fuse_brickfs_SOURCES = brickfs/umount.c brickfs/mountpoint.h brickfs/mountpoint.c
brickfs_umount_fuse_brickfs_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(MOUNT_CFLAGS)
brickfs_umount_fuse_brickfs_LDADD = common/libcommon.la $(MOUNT_LIBS)

bin_PROGRAMS += brickfs/brickfs
brickfs_brickfs_SOURCES = brickfs/main.c
brickfs_brickfs_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
brickfs_brickfs_LDADD = brickfs/libfront.la brickfs/libcore.la common/libcommon.la

sbin_PROGRAMS += brickfs/mkfs.brickfs brickfs/fsck.brickfs
brickfs_mkfs_brickfs_SOURCES = brickfs/mkfs.c
brickfs_mkfs_brickfs_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
brickfs_mkfs_brickfs_LDADD = brickfs/libfront.la brickfs/libcore.la common/libcommon.la
brickfs_fsck_brickfs_SOURCES = brickfs/fsck.c brickfs/fsck-talk.h brickfs/fsck-talk.c
brickfs_fsck_brickfs_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs $(JANSSON_CFLAGS)
brickfs_fsck_brickfs_LDADD = brickfs/libfront.la brickfs/libcore.la common/libcommon.la $(JANSSON_LIBS)

# fsck(8) looks for the helper of the type in fstab.
install-exec-hook:
	cd '$(DESTDIR)$(sbindir)' && rm -f fsck.fuse.brickfs && $(LN_S) fsck.brickfs fsck.fuse.brickfs
uninstall-hook:
	rm -f '$(DESTDIR)$(sbindir)/fsck.fuse.brickfs'
