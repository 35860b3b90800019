# libbrick's verbs transport against a brick; the scripts of the RDMA lane run it in their virtual machine.
check_PROGRAMS += tests/rdma/verbs-client
tests_rdma_verbs_client_SOURCES = tests/rdma/verbs-client.c
tests_rdma_verbs_client_LDADD = common/libbrick.la
# Persistence by RDMA FLUSH; flush.sh builds with an rdma-core that has it.
check_PROGRAMS += tests/rdma/flush-client
tests_rdma_flush_client_SOURCES = tests/rdma/flush-client.c
tests_rdma_flush_client_LDADD = common/libbrick.la
TESTS += tests/rdma/flush.sh
dist_check_SCRIPTS += tests/rdma/flush.sh
