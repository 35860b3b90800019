include tests/unit/common.mk
include tests/unit/target.mk
include tests/unit/core.mk
