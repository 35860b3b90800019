# Over RDMA, in a virtual machine: lane.sh is one test of make check, and runs many there.
TESTS += tests/rdma/lane.sh
dist_check_SCRIPTS += tests/rdma/lane.sh tests/rdma/guest.sh tests/rdma/vm-run

check_PROGRAMS += tests/rdma/refused
tests_rdma_refused_SOURCES = tests/rdma/refused.c
tests_rdma_refused_LDADD = common/libbrick.la
