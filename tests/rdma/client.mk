# libbrick's verbs transport against a brick; the scripts of the RDMA lane run it in their virtual machine.
check_PROGRAMS += tests/rdma/verbs-client
tests_rdma_verbs_client_SOURCES = tests/rdma/verbs-client.c
tests_rdma_verbs_client_LDADD = common/libbrick.la
