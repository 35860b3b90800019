/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * mkfs.brickfs - makes a filesystem over bricks, and prints what it made.
 */
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "core.h"
#include "endpoint.h"
#include "mount-options.h"
#include "report.h"
#include "volume.h"

#define EXIT_USAGE 1
#define EXIT_FAIL 1
#define LOOK_TIMEOUT_MS 10000

static const char usage[] = "usage: mkfs.brickfs [-f] [-q] [-L LABEL] [--timeo SECONDS] ENDPOINT[,ENDPOINT...]\n"
			    "       mkfs.brickfs -V | -h\n"
			    "  -f        make it although a brick holds blocks, or another filesystem: they are freed\n"
			    "  -L LABEL  up to 63 bytes\n"
			    "  -q        print errors and warnings only\n"
			    "  --timeo SECONDS  how long a brick may be away (60)\n"
			    "ENDPOINT: tcp://host:port, unix:/path, rdma://host:port\n";

static void print_blocks(const char *what, uint64_t blocks)
{
	char text[16];

	format_size(blocks * VOL_BLOCK_SIZE, text);
	printf("%-12s %s (%ju blocks of 2 MiB)\n", what, text, (uintmax_t)blocks);
}

/* Also with -q: it is no matter of taste. */
static void warn_volatile(void *arg, const struct fs_brick *brick)
{
	if (!strcmp(brick->method, FS_VOLATILE))
		report_warning("brick %s " FS_VOLATILE_TEXT, brick->endpoint);
}

/* The bricks are asked, not remembered: what is printed is what is there. */
static void print_brick(const char *endpoint)
{
	struct backend_session *session;
	const struct backend_info *info;
	char uuid[37], size[16];
	int rc;

	rc = backend_brick.open(NULL, endpoint, "mkfs.brickfs", 1, 0, LOOK_TIMEOUT_MS, &session);
	if (rc) {
		report_warning("%s: %s", endpoint, strerror(-rc));
		return;
	}
	info = backend_brick.info(session);
	format_uuid(info->uuid, uuid);
	format_size(info->capacity * VOL_BLOCK_SIZE, size);
	printf("brick        %s, %s, %s, persistence %s\n", endpoint, uuid, size, info->method);
	backend_brick.close(session);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "timeo", required_argument, NULL, 't' }, { 0 } };
	struct fs_make_options options = { .backend = &backend_brick };
	char **endpoints = NULL, uuid[37];
	struct fs_info made;
	bool quiet = false;
	size_t count = 0;
	int option, rc;

	report_init("mkfs.brickfs", false, REPORT_NOTICE);
	while ((option = getopt_long(argc, argv, "fqL:Vvh", longs, NULL)) != -1)
		switch (option) {
		case 'f':
			options.force = true;
			break;
		case 'q':
			quiet = true;
			break;
		case 'L':
			options.label = optarg;
			break;
		case 't':
			if (timeo_parse(optarg, &options.timeo_ms))
				return EXIT_USAGE;
			break;
		case 'V':
			puts(PACKAGE_STRING);
			return 0;
		case 'v':
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
	if (optind + 1 != argc) {
		report_error("%s", optind == argc ? "the endpoint is missing" : "one argument is expected: the bricks' endpoints, separated by commas");
		fputs(usage, stderr);
		return EXIT_USAGE;
	}
	if (options.label && strlen(options.label) >= FS_LABEL_MAX) {
		report_error("label '%s' is longer than %d bytes", options.label, FS_LABEL_MAX - 1);
		return EXIT_USAGE;
	}
	rc = endpoints_split(argv[optind], &endpoints, &count);
	if (rc)
		return EXIT_USAGE;
	options.endpoints = (const char *const *)endpoints;
	options.endpoint_count = count;

	memset(&made, 0, sizeof(made));
	options.made = warn_volatile;
	rc = fs_make(&options, &made);
	if (rc) {
		const char *text = fs_error_text();

		report_error("%s", text && *text ? text : strerror(-rc));
		goto out;
	}
	if (quiet)
		goto out;
	format_uuid(made.uuid, uuid);
	printf("filesystem   %s\n", uuid);
	if (*made.label)
		printf("label        %s\n", made.label);
	for (size_t i = 0; i < count; i++)
		print_brick(endpoints[i]);
	print_blocks("capacity", made.capacity);
	print_blocks("usable", made.free > made.reserve ? made.free - made.reserve : 0);
	print_blocks("reserved", made.reserve);
	printf("persistence  %s\n", made.method);
	if (fflush(stdout)) {
		rc = -errno;
		report_error("standard output: %s", strerror(errno));
	}
out:
	endpoints_free(endpoints, count);
	return rc ? EXIT_FAIL : 0;
}
