# Over RDMA, in a virtual machine: lane.sh is one test of make check, and runs many there.
check_PROGRAMS += tests/rdma/refused
tests_rdma_refused_SOURCES = tests/rdma/refused.c
tests_rdma_refused_LDADD = common/libbrick.la

EXTRA_DIST += tests/rdma/vm-run
