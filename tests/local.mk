include tests/unit/local.mk
include tests/fuzz/local.mk
include tests/crash/local.mk
include tests/damage/local.mk
include tests/functional/local.mk
