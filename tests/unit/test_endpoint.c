/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shows what command lines may say: endpoints, sizes, addresses and UUIDs that are
 * taken, with their canonical text, and those that are refused and change nothing.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_run.h"
#include "endpoint.h"
#include "report.h"

START_TEST(test_endpoint_good)
{
	static const struct {
		const char *text, *canonical;
		enum endpoint_kind kind;
		bool local;
	} t[] = {
		{"tcp://127.0.0.1:7000", "tcp://127.0.0.1:7000", ENDPOINT_TCP, true},
		{"tcp://127.9.9.9:0", "tcp://127.9.9.9:0", ENDPOINT_TCP, true},
		{"tcp://192.0.2.1:007", "tcp://192.0.2.1:7", ENDPOINT_TCP, false},
		{"tcp://0.0.0.0:65535", "tcp://0.0.0.0:65535", ENDPOINT_TCP, false},
		{"tcp://[::1]:7000", "tcp://[::1]:7000", ENDPOINT_TCP, true},
		{"tcp://[::]:7000", "tcp://[::]:7000", ENDPOINT_TCP, false},
		{"tcp://[::ffff:127.0.0.1]:1", "tcp://[::ffff:127.0.0.1]:1", ENDPOINT_TCP, true},
		{"rdma://[2001:db8::1]:4791", "rdma://[2001:db8::1]:4791", ENDPOINT_VERBS, false},
		{"tcp://[fe80::1%lo]:1", "tcp://[fe80::1%lo]:1", ENDPOINT_TCP, false},
		{"unix:/run/brickd.sock", "unix:/run/brickd.sock", ENDPOINT_LOCAL, true},
		{"unix:///run/b:1", "unix:///run/b:1", ENDPOINT_LOCAL, true},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct endpoint e;
		char text[ENDPOINT_TEXT_MAX];

		ck_assert_msg(endpoint_parse(t[i].text, &e) == 0, "%s", t[i].text);
		ck_assert_int_eq(e.kind, t[i].kind);
		endpoint_format(&e, text);
		ck_assert_str_eq(text, t[i].canonical);
		ck_assert_msg(endpoint_is_local(&e) == t[i].local, "%s", t[i].text);
	}
}
END_TEST

START_TEST(test_endpoint_bad)
{
	static const char *const t[] = {
		"", "tcp", "tcp:", "tcp://", "tcp://host", "tcp://:7000", "tcp://host:", "tcp://host:x", "tcp://host:1x",
		"tcp://host:65536", "tcp://host:-1", "tcp://host:+1", "tcp://host: 1", "tcp://ho st:1", "tcp://host:1/",
		"tcp://a,b:1", "tcp://::1:7000", "tcp://[::1]", "tcp://[::1]7000", "tcp://[::1:7000", "tcp://[host]:1",
		"tcp://[]:1", "tcp://[::1%]:1", "TCP://host:1", "udp://host:1", "host:1", "unix:", "unix:/", "unix:sock",
		"unix:/dir/", "unix:/a\nb", "unix:/a b", "rdma:/host:1", " tcp://host:1", "tcp://host:99999999999999999999",
	};
	char text[ENDPOINT_TEXT_MAX], path[200] = "unix:/";

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct endpoint e = {.kind = ENDPOINT_LOCAL, .path = "/untouched"};

		ck_assert_msg(endpoint_parse(t[i], &e) == -EINVAL, "%s", t[i]);
		endpoint_format(&e, text);
		ck_assert_str_eq(text, "unix:/untouched");
	}

	/* sun_path has 108 bytes with the NUL, a host name at most 255 */
	struct endpoint e;
	char host[400];

	memset(path + 6, 'x', 106);
	ck_assert_int_eq(endpoint_parse(path, &e), 0);
	ck_assert_uint_eq(strlen(e.path), 107);
	path[6 + 106] = 'x';
	ck_assert_int_eq(endpoint_parse(path, &e), -EINVAL);
	memset(host, 'h', sizeof(host));
	memcpy(host, "tcp://", 6);
	strcpy(host + 6 + 255, ":65535");
	ck_assert_int_eq(endpoint_parse(host, &e), 0);
	endpoint_format(&e, text);
	ck_assert_str_eq(text, host);
	memset(host + 6, 'h', 256);
	strcpy(host + 6 + 256, ":1");
	ck_assert_int_eq(endpoint_parse(host, &e), -EINVAL);
}
END_TEST

START_TEST(test_size)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0}, {"1", 1}, {"512B", 512}, {"4096", 4096}, {"1K", 1024}, {"1k", 1024}, {"64M", 64ull << 20},
		{"64MiB", 64ull << 20}, {"2MB", 2ull << 20}, {"4GiB", 4ull << 30}, {"3g", 3ull << 30}, {"1T", 1ull << 40},
		{"15E", 15ull << 60}, {"18446744073709551615", UINT64_MAX}, {"16777215T", 16777215ull << 40}, {"007K", 7168},
	};
	static const char *const bad[] = {
		"", " ", "-1", "+1", " 1", "1 ", "M", "1X", "1KK", "1Ki", "1KiBs", "1.5G", "1,5G", "0x10", "16E", "16777216T",
		"18446744073709551616", "99999999999999999999999", "1iB", "1Bi", "1e3", "K1", "18014398509481984K",
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t bytes = 1234567;

		ck_assert_msg(parse_size(good[i].text, &bytes) == 0, "%s", good[i].text);
		ck_assert_msg(bytes == good[i].bytes, "%s", good[i].text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t bytes = 1234567;

		ck_assert_msg(parse_size(bad[i], &bytes) == -EINVAL, "%s", bad[i]);
		ck_assert_uint_eq(bytes, 1234567);
	}
}
END_TEST

START_TEST(test_address)
{
	static const struct {
		const char *text;
		uint64_t addr;
	} good[] = {{"0", 0}, {"0x200000", 0x200000}, {"200000", 0x200000}, {"0XfFfFfFfFfFfFfFfF", UINT64_MAX},
		    {"00000000000000000000200000", 0x200000}, {"8000000000000000", 1ull << 63}};
	static const char *const bad[] = {"", "0x", "x", "0x1g", "-1", " 1", "1 ", "10000000000000000", "0x0x1", "2M"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		uint64_t addr = 1;

		ck_assert_msg(parse_address(good[i].text, &addr) == 0, "%s", good[i].text);
		ck_assert_uint_eq(addr, good[i].addr);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint64_t addr = 4711;

		ck_assert_msg(parse_address(bad[i], &addr) == -EINVAL, "%s", bad[i]);
		ck_assert_uint_eq(addr, 4711);
	}
}
END_TEST

START_TEST(test_format_size)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} t[] = {
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1 KiB"}, {1536, "1.5 KiB"}, {64ull << 20, "64 MiB"},
		{(1ull << 20) - 1, "1 MiB"}, {(1ull << 30) - (1ull << 19), "1023.5 MiB"}, {3ull << 29, "1.5 GiB"},
		{10995116277760, "10 TiB"}, {UINT64_MAX, "16 EiB"}, {1ull << 63, "8 EiB"}, {1100, "1.1 KiB"},
	};
	char text[16];

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		format_size(t[i].bytes, text);
		ck_assert_str_eq(text, t[i].text);
	}
	/* every magnitude fits */
	for (unsigned shift = 0; shift < 64; shift++) {
		format_size(UINT64_MAX >> shift, text);
		ck_assert_uint_lt(strlen(text), sizeof(text));
	}
}
END_TEST

START_TEST(test_uuid)
{
	static const char *const bad[] = {
		"", "00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899-aabbccddeeff0",
		"00112233x4455-6677-8899-aabbccddeeff", "0011223344556677-8899-aabbccddeeff",
		"g0112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddee f",
	};
	uint8_t uuid[16], back[16];
	char text[37];

	for (unsigned i = 0; i < 16; i++)
		uuid[i] = (uint8_t)(i * 0x11);
	format_uuid(uuid, text);
	ck_assert_str_eq(text, "00112233-4455-6677-8899-aabbccddeeff");
	ck_assert_int_eq(parse_uuid("00112233-4455-6677-8899-AABBccddeeff", back), 0);
	ck_assert_mem_eq(uuid, back, 16);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(parse_uuid(bad[i], back) == -EINVAL, "%s", bad[i]);
		ck_assert_mem_eq(uuid, back, 16);
	}
}
END_TEST

/* What report() wrote to a standard error that is a pipe. */
static void reported(char *out, size_t room, bool journald, enum report_level level, const char *text)
{
	int ends[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_ge(saved, 0);
	ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
	close(ends[1]);
	report_init("brickd", journald, REPORT_NOTICE);
	errno = 4711;
	report(level, "%s", text);
	ck_assert_int_eq(errno, 4711);
	ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
	close(saved);
	n = read(ends[0], out, room - 1);
	ck_assert_int_ge(n, 0);
	out[n] = '\0';
	close(ends[0]);
}

/* One line a message, whatever is in it; levels that were not asked for stay out. */
START_TEST(test_report)
{
	char out[8192], big[5000];

	reported(out, sizeof(out), false, REPORT_ERROR, "unix:/a: gone");
	ck_assert_str_eq(out, "brickd: unix:/a: gone\n");
	reported(out, sizeof(out), false, REPORT_WARNING, "slow");
	ck_assert_str_eq(out, "brickd: warning: slow\n");
	reported(out, sizeof(out), true, REPORT_WARNING, "slow");
	ck_assert_str_eq(out, "<4>slow\n");
	reported(out, sizeof(out), false, REPORT_INFO, "detail");
	ck_assert_str_eq(out, "");
	reported(out, sizeof(out), false, REPORT_ERROR, "a\nb\033[2J");
	ck_assert_str_eq(out, "brickd: a b?[2J\n");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	reported(out, sizeof(out), false, REPORT_ERROR, big);
	ck_assert_uint_lt(strlen(out), 2100);
	ck_assert_str_eq(out + strlen(out) - 5, "x...\n");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("endpoint");
	TCase *tc = tcase_create("text");

	tcase_add_test(tc, test_endpoint_good);
	tcase_add_test(tc, test_endpoint_bad);
	tcase_add_test(tc, test_size);
	tcase_add_test(tc, test_address);
	tcase_add_test(tc, test_format_size);
	tcase_add_test(tc, test_uuid);
	tcase_add_test(tc, test_report);
	suite_add_tcase(suite, tc);
	return check_run(suite);
}
