# Spoils filesystems, on simulated bricks (unit tests) and on real ones (functional tests).
check_LTLIBRARIES += tests/damage/libdamage.la
tests_damage_libdamage_la_SOURCES = tests/damage/damage.h tests/damage/damage-internal.h tests/damage/damage.c tests/damage/damage-forge.c
tests_damage_libdamage_la_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs

check_PROGRAMS += tests/damage/damage
tests_damage_damage_SOURCES = tests/damage/main.c
tests_damage_damage_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/brickfs
tests_damage_damage_LDADD = tests/damage/libdamage.la brickfs/libcore.la common/libcommon.la
