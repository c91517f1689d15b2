/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * eater.c - raises memory pressure (PSI): repeatedly reads a file that exceeds the limit of its
 * cgroup, so that it always waits for reclaim. It takes no memory from other processes. Runs until
 * it is killed.
 */
#include "pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <signal.h>

#define CHUNK ((size_t)1 << 20)

static void eater(void)
{
	uint64_t size = param("mib") << 20;
	const char *folder = getenv("TMPDIR");
	int fd = open(folder ? folder : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *chunk = bench_map(CHUNK);

	if (fd < 0)
		bench_fail("no temporary file in %s: %s", folder ? folder : "/var/tmp",
			   strerror(errno));
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	memset(chunk, 1, CHUNK);
	for (uint64_t at = 0; at < size; at += CHUNK) {
		if (pwrite(fd, chunk, CHUNK, (off_t)at) != (ssize_t)CHUNK)
			bench_fail("writing a temporary file: %s", strerror(errno));
	}
	for (;;) {
		for (uint64_t at = 0; at < size; at += CHUNK) {
			if (pread(fd, chunk, CHUNK, (off_t)at) < 0)
				bench_fail("reading a temporary file: %s", strerror(errno));
		}
	}
}

const struct workload eater_workloads[] = {
	{ "eater", eater, "reads a file that does not fit, until killed", { { "mib", 256 } } },
	{ 0 },
};
