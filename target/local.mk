# brickd, the target.  Everything but main.c is a library, so that the unit tests reach it.

# The store: pool, idmap, tier.
noinst_LTLIBRARIES += target/libstore.la
target_libstore_la_SOURCES = \
	target/sigbus.h target/sigbus.c \
	target/pool.h target/pool-internal.h target/pool-format.h target/pool-format.c \
	target/pool-file.c target/pool-sync.c target/pool-bytes.c target/pool-create.c target/pool-zero.c target/pool.c \
	target/idmap.h target/idmap.c \
	target/tier-track.h target/tier-track.c \
	target/tier-folder.h target/tier-folder.c target/tier-memory.h target/tier-memory.c \
	target/tier.h target/tier-internal.h target/tier.c target/tier-open.c target/tier-cache.c
target_libstore_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target $(PMEM2_CFLAGS) $(XXHASH_CFLAGS)
target_libstore_la_LIBADD = common/libcommon.la $(PMEM2_LIBS) $(XXHASH_LIBS)

# The server: listeners, lanes, sessions, calls.
noinst_LTLIBRARIES += target/libserver.la
target_libserver_la_SOURCES = \
	target/table.h target/table.c \
	target/stats.h target/stats.c \
	target/stream.h target/stream.c target/conn.h target/conn_stream.c \
	target/listener.h target/listener.c target/listener_tcp.c target/listener_local.c target/listener_verbs.c \
	target/verbs.h target/verbs-internal.h target/verbs_device.c target/verbs_domain.c \
	target/verbs_queue.c target/verbs_conn.c \
	target/worker.h target/worker.c target/peers.h target/peers.c target/refusals.h target/refusals.c \
	target/server.h target/server.c \
	target/session.c target/grants.c target/locks.c target/calls.c target/lane.c target/data.c
target_libserver_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target $(IBVERBS_CFLAGS) $(RDMACM_CFLAGS)
target_libserver_la_LIBADD = target/libstore.la $(RDMACM_LIBS) $(IBVERBS_LIBS)

sbin_PROGRAMS += target/brickd
target_brickd_SOURCES = target/main.c target/notify.h target/notify.c
target_brickd_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/target
target_brickd_LDADD = target/libserver.la

# brickctl, the calls from a shell: an initiator like any other.
sbin_PROGRAMS += target/brickctl
target_brickctl_SOURCES = target/brickctl.c target/ctl.h target/ctl_blocks.c target/ctl_data.c target/ctl_show.c
target_brickctl_CPPFLAGS = $(AM_CPPFLAGS) $(JANSSON_CFLAGS)
target_brickctl_LDADD = common/libbrick.la common/libcommon.la $(JANSSON_LIBS)

# One unit for all bricks; each has its /etc/brickd/NAME.conf.
EXTRA_DIST += target/brickd@.service.in
dist_doc_DATA = target/brickd.conf.example
if SYSTEMD_UNITS
systemdsystemunit_DATA = target/brickd@.service
endif
CLEANFILES += target/brickd@.service
target/brickd@.service: target/brickd@.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) target && sed -e 's|@sbindir[@]|$(sbindir)|g' \
		$(srcdir)/target/brickd@.service.in >$@.tmp && mv $@.tmp $@
