dnl SPDX-License-Identifier: BSD-3-Clause
dnl Macros of brickfs' configure.

dnl BRICK_CFLAGS: the warnings we build with, and --enable-werror.
AC_DEFUN([BRICK_CFLAGS], [
AC_ARG_ENABLE([werror],
	[AS_HELP_STRING([--enable-werror], [treat warnings as errors (CI)])],
	[], [enable_werror=no])
BRICK_WARN="-std=gnu11 -Wall -Wextra -Wshadow -Wvla -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers"
AS_IF([test "x$enable_werror" = xyes], [BRICK_WARN="$BRICK_WARN -Werror"])
AC_SUBST([BRICK_WARN])
])

dnl BRICK_SANITIZERS: --enable-sanitizers (ASan, UBSan), --enable-tsan.
AC_DEFUN([BRICK_SANITIZERS], [
AC_ARG_ENABLE([sanitizers],
	[AS_HELP_STRING([--enable-sanitizers], [build with AddressSanitizer and UndefinedBehaviorSanitizer])],
	[], [enable_sanitizers=no])
AC_ARG_ENABLE([tsan],
	[AS_HELP_STRING([--enable-tsan], [build with ThreadSanitizer])],
	[], [enable_tsan=no])
BRICK_SAN=
AS_IF([test "x$enable_sanitizers" = xyes],
	[BRICK_SAN="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"])
AS_IF([test "x$enable_tsan" = xyes],
	[AS_IF([test "x$enable_sanitizers" = xyes],
		[AC_MSG_ERROR([--enable-sanitizers and --enable-tsan cannot go together: configure two build directories])])
	 BRICK_SAN="-fsanitize=thread -fno-omit-frame-pointer"])
AC_SUBST([BRICK_SAN])
AM_CONDITIONAL([SANITIZED], [test "x$BRICK_SAN" != x])
])

dnl BRICK_NEED(PREFIX, MODULE, DEBIAN-PACKAGE): pkg-config, or remember what is missing.
AC_DEFUN([BRICK_NEED], [
PKG_CHECK_MODULES([$1], [$2], [],
	[brick_missing="$brick_missing
    $2: Debian package $3"])
])

AC_DEFUN([BRICK_NEED_REPORT], [
AS_IF([test "x$brick_missing" != x],
	[AC_MSG_ERROR([these libraries are missing:$brick_missing
Install them (./quickstart does that on Debian) and run configure again.])])
])

dnl BRICK_FLUSH: HAVE_DECL_IBV_WR_FLUSH is 1 when the verbs library can post RDMA FLUSH, else 0.
AC_DEFUN([BRICK_FLUSH], [
brick_save_CPPFLAGS=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $IBVERBS_CFLAGS"
AC_CHECK_DECLS([ibv_wr_flush], [], [], [[#include <infiniband/verbs.h>]])
CPPFLAGS=$brick_save_CPPFLAGS
])

AC_DEFUN([AX_PTHREAD_FLAGS], [
PTHREAD_CFLAGS=-pthread
PTHREAD_LIBS=-pthread
AC_SUBST([PTHREAD_CFLAGS])
AC_SUBST([PTHREAD_LIBS])
])

dnl Where units go: --with-systemdsystemunitdir=DIR, "no" for none.
AC_DEFUN([BRICK_SYSTEMD_DIR], [
AC_ARG_WITH([systemdsystemunitdir],
	[AS_HELP_STRING([--with-systemdsystemunitdir=DIR], [where systemd units are installed, or no])],
	[], [with_systemdsystemunitdir='${prefix}/lib/systemd/system'])
AS_IF([test "x$with_systemdsystemunitdir" != xno],
	[AC_SUBST([systemdsystemunitdir], [$with_systemdsystemunitdir])])
AM_CONDITIONAL([SYSTEMD_UNITS], [test "x$with_systemdsystemunitdir" != xno])
])
