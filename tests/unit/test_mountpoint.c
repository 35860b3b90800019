/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows how umount learns what became of the daemon: that it ended well, failed and with which words, died without one, and
 * that a run file nobody holds is nobody's.  Needs to write to /run/brickfs.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check_run.h"
#include "mountpoint.h"

/* A number that no mount has: anonymous devices have major 0. */
static dev_t device_of_test(void)
{
	return makedev(0xffe, (unsigned)getpid() & 0xfffff);
}

/*
 * A daemon that takes the file, says so on the pipe, and then ends as told: with words, or killed.  It waits for
 * a byte before it does.
 */
static pid_t daemon_start(dev_t device, const char *words, bool dies, int *go)
{
	int ready[2], end[2];
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	ck_assert_int_eq(pipe(end), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		int fd = runfile_create(device, 1);

		close(end[1]);
		if (fd < 0 || write(ready[1], "r", 1) != 1 || read(end[0], &byte, 1) != 1)
			_exit(1);
		if (dies)
			raise(SIGKILL);
		runfile_ending(fd);
		runfile_close(fd, device, words);
		_exit(0);
	}
	close(ready[1]);
	close(end[0]);
	ck_assert_int_eq(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	*go = end[1];
	return pid;
}

static int outcome(const char *words, bool dies, char *text, size_t size)
{
	dev_t device = device_of_test();
	int go, fd, rc, status;
	pid_t pid = daemon_start(device, words, dies, &go);

	fd = runfile_open(device);
	ck_assert_msg(fd >= 0, "run file: %s", strerror(-fd));
	ck_assert_int_eq(write(go, "g", 1), 1);
	rc = runfile_wait(fd, text, size);
	close(fd);
	close(go);
	waitpid(pid, &status, 0);
	return rc;
}

START_TEST(test_outcomes)
{
	dev_t device = device_of_test();
	char text[256];
	int fd;

	ck_assert_int_eq(runfile_open(device), -ENOENT);
	ck_assert_int_eq(outcome(NULL, false, text, sizeof(text)), 0);
	ck_assert_int_eq(runfile_open(device), -ENOENT);
	ck_assert_int_eq(outcome("tcp://a:1 went away", false, text, sizeof(text)), -EIO);
	ck_assert_str_eq(text, "tcp://a:1 went away");
	ck_assert_int_eq(outcome(NULL, true, text, sizeof(text)), -ESRCH);
	/* The dead one's file still lies there, and is nobody's; the next one takes it over. */
	ck_assert_int_eq(runfile_open(device), -ENOENT);
	fd = runfile_create(device, 1);
	ck_assert_int_ge(fd, 0);
	runfile_close(fd, device, NULL);
	ck_assert_int_eq(runfile_open(device), -ENOENT);
}
END_TEST

START_TEST(test_paths)
{
	char path[PATH_MAX], type[64];
	dev_t device;
	struct stat st;

	ck_assert_int_eq(mountpoint_resolve("/proc/../proc/", path), 0);
	ck_assert_str_eq(path, "/proc");
	ck_assert_int_eq(mountpoint_type(path, type, sizeof(type)), 0);
	ck_assert_str_eq(type, "proc");
	ck_assert_int_eq(mountpoint_type("/proc/self", type, sizeof(type)), -ENOENT);
	ck_assert_int_eq(mountpoint_resolve("/nowhere/at/all", path), -ENOENT);
	ck_assert_int_eq(stat("/proc", &st), 0);
	ck_assert_int_eq(mountpoint_device("/proc", &device), 0);
	ck_assert(device == st.st_dev);
	ck_assert_int_eq(mountpoint_ask("/proc", &device), 0);
	ck_assert(device == st.st_dev);
	ck_assert_uint_ge(mountpoint_count(device), 1);
	ck_assert_uint_eq(mountpoint_count(device_of_test()), 0);
	ck_assert_int_eq(mountpoint_ask_for("/proc", device), 0);
	ck_assert_int_eq(mountpoint_ask_for("/", device), -EXDEV);
	ck_assert_int_eq(mountpoint_ask_for("/nowhere/at/all", device), -ENOENT);
	ck_assert_int_eq(mountpoint_ask_for("/proc", device_of_test()), -ENODEV);
	ck_assert_int_eq(mountpoint_ask_for("/nowhere/at/all", device_of_test()), -ENODEV);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mountpoint");
	TCase *tc = tcase_create("run file");

	if (geteuid()) {
		puts("skipped: run me as root, for /run/brickfs");
		return 77;
	}
	tcase_add_test(tc, test_outcomes);
	tcase_add_test(tc, test_paths);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
