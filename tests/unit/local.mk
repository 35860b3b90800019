# How each of them ends.
EXTRA_DIST += tests/unit/check_run.h

include tests/unit/common.mk
include tests/unit/target.mk
include tests/unit/core.mk
include tests/unit/front.mk
