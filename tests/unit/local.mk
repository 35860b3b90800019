include tests/unit/common.mk
include tests/unit/target.mk
include tests/unit/core.mk
include tests/unit/front.mk
