/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * endpoints - "ENDPOINT[,ENDPOINT...]" and --timeo of the programs' command lines (mount-options.h).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "mount-options.h"
#include "report.h"
#include "volume.h"

void endpoints_free(char **endpoints, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(endpoints[i]);
	free(endpoints);
}

int endpoints_split(const char *text, char ***result, size_t *result_count)
{
	char **endpoints = NULL;
	struct endpoint parsed;
	size_t count = 0;
	int rc;

	for (const char *at = text;; at++) {
		size_t length = strcspn(at, ",");
		char *one = strndup(at, length);
		char **more = one ? realloc(endpoints, (count + 1) * sizeof(*endpoints)) : NULL;

		if (!more) {
			free(one);
			rc = -ENOMEM;
			goto fail;
		}
		endpoints = more;
		endpoints[count++] = one;
		rc = endpoint_parse(one, &parsed);
		if (rc) {
			report_error("'%s' is not an endpoint: expected " ENDPOINT_SYNTAX, one);
			goto fail;
		}
		if (count > VOL_BRICKS_MAX) {
			report_error("more than %d bricks", VOL_BRICKS_MAX);
			rc = -EINVAL;
			goto fail;
		}
		at += length;
		if (!*at)
			break;
	}
	*result = endpoints;
	*result_count = count;
	return 0;
fail:
	endpoints_free(endpoints, count);
	return rc;
}

int timeo_parse(const char *text, unsigned *ms)
{
	unsigned long seconds;
	char *end;

	errno = 0;
	seconds = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || seconds < 1 || seconds > TIMEO_MAX_S) {
		report_error("--timeo '%s': expected a number of seconds from 1 to %u", text, TIMEO_MAX_S);
		return -EINVAL;
	}
	*ms = (unsigned)seconds * 1000;
	return 0;
}
