/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows what brickfs' command line may say: what of it the filesystem is told and what the kernel, the
 * list of endpoints taken apart, and that what is not known or not a number is refused by name.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_run.h"
#include "mount-options.h"
#include "report.h"

#define WORDS_MAX 16

/* Parses a command line given with spaces. */
static int parse(struct mount_options *options, const char *line)
{
	char *copy = strdup(line), *words[WORDS_MAX];
	int count = 0, rc;

	for (char *word = strtok(copy, " "); word && count < WORDS_MAX; word = strtok(NULL, " "))
		words[count++] = word;
	rc = mount_options_parse(options, count, words);
	free(copy);
	return rc;
}

/* What was reported while a bad line was parsed. */
static void refused(const char *line, const char *names)
{
	char text[512] = "";
	struct mount_options options;
	int fds[2], saved = dup(STDERR_FILENO), rc;
	ssize_t n;

	ck_assert_int_eq(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	rc = parse(&options, line);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(fds[1]);
	n = read(fds[0], text, sizeof(text) - 1);
	close(fds[0]);
	text[n > 0 ? n : 0] = 0;
	ck_assert_msg(rc == -EINVAL, "'%s' gives %d", line, rc);
	ck_assert_msg(strstr(text, names), "'%s' says '%s', not a word of '%s'", line, text, names);
}

START_TEST(test_mount_line)
{
	struct mount_options o;

	ck_assert_int_eq(parse(&o, "brickfs tcp://a:1,unix:/x,tcp://[::1]:2 /mnt -o rw,noatime,_netdev,timeo=5,x-a.b=c,dev,suid"), 0);
	ck_assert_str_eq(o.source, "tcp://a:1,unix:/x,tcp://[::1]:2");
	ck_assert_str_eq(o.dir, "/mnt");
	ck_assert_uint_eq(o.endpoint_count, 3);
	ck_assert_str_eq(o.endpoints[0], "tcp://a:1");
	ck_assert_str_eq(o.endpoints[1], "unix:/x");
	ck_assert_str_eq(o.endpoints[2], "tcp://[::1]:2");
	ck_assert_str_eq(o.kernel, "rw,noatime,dev,suid");
	ck_assert(o.noatime && !o.readonly && !o.sync && !o.foreground);
	ck_assert_uint_eq(o.timeo_s, 5);
	mount_options_free(&o);

	ck_assert_int_eq(parse(&o, "brickfs tcp://a:1 /mnt"), 0);
	ck_assert_str_eq(o.kernel, "");
	ck_assert_uint_eq(o.timeo_s + o.wait_s + o.lanes + o.maps + o.commit_ms, 0);
	mount_options_free(&o);

	ck_assert_int_eq(parse(&o, "brickfs -f -o sync,ro,wait=1,lanes=2,maps=8,commit=10 tcp://a:1 /mnt"), 0);
	ck_assert(o.foreground && !o.debug && o.sync && o.readonly && !o.noatime);
	ck_assert_uint_eq(o.wait_s, 1);
	ck_assert_uint_eq(o.lanes, 2);
	ck_assert_uint_eq(o.maps, 8);
	ck_assert_uint_eq(o.commit_ms, 10);
	ck_assert_str_eq(o.kernel, "sync,ro");
	mount_options_free(&o);
}
END_TEST

START_TEST(test_last_word_counts)
{
	struct mount_options o;

	ck_assert_int_eq(parse(&o, "brickfs tcp://a:1 /mnt -o ro,sync,noatime -o rw,async,relatime -d"), 0);
	ck_assert(!o.readonly && !o.sync && !o.noatime && o.debug && o.foreground);
	ck_assert_str_eq(o.kernel, "ro,sync,noatime,rw,async,atime");
	mount_options_free(&o);
}
END_TEST

START_TEST(test_refusals)
{
	refused("brickfs tcp://a:1 /mnt -o ro,bogus", "'bogus'");
	refused("brickfs tcp://a:1 /mnt -x", "'-x'");
	refused("brickfs tcp://a:1 /mnt /other", "'/other'");
	refused("brickfs tcp://a:1 /mnt -o timeo=", "'timeo='");
	refused("brickfs tcp://a:1 /mnt -o timeo=0", "'timeo=0'");
	refused("brickfs tcp://a:1 /mnt -o timeo=-1", "'timeo=-1'");
	refused("brickfs tcp://a:1 /mnt -o maps=8x", "'maps=8x'");
	refused("brickfs tcp://a:1 /mnt -o lanes=99999999999999999999", "lanes=");
	refused("brickfs tcp://a:1 /mnt -o remount,ro", "remount");
	refused("brickfs tcp://a:1", "the directory");
	refused("brickfs", "the endpoint");
	refused("brickfs /dev/sda /mnt", "'/dev/sda'");
	refused("brickfs tcp://a:1,,tcp://b:1 /mnt", "''");
	refused("brickfs tcp://a:1, /mnt", "''");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mount-options");
	TCase *tc = tcase_create("line");

	report_init("brickfs", false, REPORT_NOTICE);
	tcase_add_test(tc, test_mount_line);
	tcase_add_test(tc, test_last_word_counts);
	tcase_add_test(tc, test_refusals);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
