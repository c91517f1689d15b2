/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stats.c - see stats.h. Primitive; used by all layers. Allocates nothing, takes no lock.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/stats.h"

#include <errno.h>
#include <fcntl.h>

#include "base/log.h"
#include "base/sys.h"

#define LINE_BYTES 3072
#define WRITE_MS 1000

struct stat_shard stat_shards[STAT_SHARDS];
_Thread_local uint32_t stat_shard_self TLS_FAST;

static const char *const names[STATS] = {
#define STAT(name, text) #name,
#include "base/stats.def"
};

uint32_t stat_shard_pick(void)
{
	static _Atomic uint32_t next;

	stat_shard_self =
		(atomic_fetch_add_explicit(&next, 1, memory_order_relaxed) & (STAT_SHARDS - 1)) + 1;
	return stat_shard_self;
}

uint64_t stat_sum(enum stat_id s)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < STAT_SHARDS; i++)
		sum += atomic_load_explicit(&stat_shards[i].count[s], memory_order_relaxed);
	return sum;
}

const char *stat_name(enum stat_id s)
{
	return names[s];
}

/* As libc has it; program_invocation_short_name may be a name of the program's own. */
extern char *__progname;

int stats_append(const char *path)
{
	char line[LINE_BYTES];
	int saved = errno;
	size_t len;
	int err = 0;
	int fd = sys_open(path, STATS_FILE_FLAGS, STATS_FILE_MODE);

	if (fd >= 0) {
		len = log_format(line, sizeof(line), "sluice pid=%u program=%s",
				 (unsigned)sys_getpid(), __progname);
		for (unsigned i = 0; i < STATS; i++)
			len += log_format(line + len, sizeof(line) - len, " %s=%lu", names[i],
					  (unsigned long)stat_sum((enum stat_id)i));
		line[len++] = '\n';
		if (log_write(fd, line, len, WRITE_MS) < 0)
			err = errno;
		sys_close(fd);
	}
	errno = saved;
	return err;
}
