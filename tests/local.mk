include tests/unit/local.mk
include tests/crash/local.mk
include tests/functional/local.mk
