# A client of the bare protocol over verbs; runs in the guest.
check_PROGRAMS += tests/rdma/raw-verbs
tests_rdma_raw_verbs_SOURCES = tests/rdma/raw-verbs.c tests/rdma/raw-client.c tests/rdma/raw-client.h
tests_rdma_raw_verbs_CPPFLAGS = $(AM_CPPFLAGS) $(IBVERBS_CFLAGS) $(RDMACM_CFLAGS)
tests_rdma_raw_verbs_LDADD = common/libcommon.la $(RDMACM_LIBS) $(IBVERBS_LIBS)
dist_check_SCRIPTS += tests/rdma/raw-verbs.sh
