# A busy machine is slow and not wrong: Check's time limits, which are there against tests that hang, are four times what they say.
AM_TESTS_ENVIRONMENT = CK_TIMEOUT_MULTIPLIER=$${CK_TIMEOUT_MULTIPLIER:-4}; export CK_TIMEOUT_MULTIPLIER;

# The longest test first: what is short fits beside it.
include tests/rdma/local.mk
include tests/unit/local.mk
include tests/fuzz/local.mk
include tests/crash/local.mk
include tests/damage/local.mk
include tests/bench/local.mk
include tests/functional/local.mk
include tests/rdma/target.mk
include tests/rdma/client.mk
