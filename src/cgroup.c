/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cgroup.c - see cgroup.h. Used by pressure; uses the primitives.
 *
 * (A) No descriptor is kept: a file is opened, read and closed in one function. So nothing leaks into
 *     children, a program may close what it likes, and a file that has gone costs one failed open.
 * (B) What cannot be read or understood is no limit.
 *
 * Lock: the caller's, one caller at a time. No allocation, no stdio; keeps errno; enters the kernel, so not to be called under a lock
 * or in a heap's window. May run in a signal handler and in a fork child. 1 to 3 us a file.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "cgroup.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "sys.h"

#define TEXT_BYTES 4096u
#define NAME_BYTES 64u
#define UNLIMITED_MIN (UINT64_C(1) << 60) /* version 1 has no word for "none" */

/* Guarded by: the caller, one at a time. A thread's stack may be small. */
static char text[TEXT_BYTES];
static char file_path[CGROUP_PATH_MAX + NAME_BYTES];

/* The file's text, cut off at len - 1. False: there is none. */
static bool read_text(const char *path, char *out, size_t len)
{
	int saved = errno;
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY, 0);
	size_t got = 0;
	ssize_t n;

	if (fd >= 0) {
		while (got < len - 1 && (n = sys_read(fd, out + got, len - 1 - got)) > 0)
			got += (size_t)n;
		sys_close(fd);
	}
	out[got] = '\0';
	errno = saved;
	return got != 0;
}

/* A decimal number up to white space or the end. False: it is none. */
static bool parse_bytes(const char *s, uint64_t *out)
{
	uint64_t v = 0;
	const char *at = s;

	for (; *at >= '0' && *at <= '9'; at++) {
		if (v > (UINT64_MAX - 9) / 10)
			return false;
		v = v * 10 + (uint64_t)(*at - '0');
	}
	*out = v;
	return at != s && (*at == '\0' || *at == '\n' || *at == ' ');
}

/* A file of the group whose directory is the first dir_len bytes of the path. */
static bool group_text(const struct cgroup *g, size_t dir_len, const char *name, char *out,
		       size_t len)
{
	memcpy(file_path, g->path, dir_len);
	file_path[dir_len] = '/';
	memcpy(file_path + dir_len + 1, name, strlen(name) + 1);
	return read_text(file_path, out, len);
}

static bool group_number(const struct cgroup *g, size_t dir_len, const char *name, uint64_t *out)
{
	char digits[NAME_BYTES];

	return group_text(g, dir_len, name, digits, sizeof(digits)) && parse_bytes(digits, out);
}

/* The number behind "key " at the start of a line; 0: there is none. */
static uint64_t keyed(const char *line, const char *key)
{
	size_t len = strlen(key);
	uint64_t v;

	while (line && *line) {
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return parse_bytes(line + len + 1, &v) ? v : 0;
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	return 0;
}

/* ---- which group ------------------------------------------------------------------------- */

static bool has_word(const char *list, size_t len, const char *word)
{
	size_t n = strlen(word);

	while (len >= n) {
		const char *comma = memchr(list, ',', len);
		size_t here = comma ? (size_t)(comma - list) : len;

		if (here == n && memcmp(list, word, n) == 0)
			return true;
		if (!comma)
			break;
		list += here + 1;
		len -= here + 1;
	}
	return false;
}

/*
 * Lines are ID:CONTROLLERS:PATH. The memory controller is either in version 1's list, or in version 2,
 * whose line has ID 0 and no list. Returns the version.
 */
static unsigned membership_find(const char *line, const char **path, size_t *len)
{
	unsigned version = 0;

	while (line && *line) {
		const char *end = line + strcspn(line, "\n");
		const char *list = memchr(line, ':', (size_t)(end - line));
		const char *dir = list ? memchr(list + 1, ':', (size_t)(end - list - 1)) : NULL;

		if (dir && dir[1] == '/') {
			bool one = has_word(list + 1, (size_t)(dir - list - 1), "memory");

			if (one || (dir == list + 1 && list == line + 1 && *line == '0')) {
				version = one ? 1 : 2;
				*path = dir + 1;
				*len = (size_t)(end - dir - 1);
			}
			if (one)
				break;
		}
		line = *end ? end + 1 : NULL;
	}
	return version;
}

static bool append(char *path, size_t *at, const char *s, size_t len)
{
	if (*at + len >= CGROUP_PATH_MAX)
		return false;
	memcpy(path + *at, s, len);
	*at += len;
	path[*at] = '\0';
	return true;
}

static bool exists(const char *path)
{
	int saved = errno;
	bool yes = access(path, F_OK) == 0;

	errno = saved;
	return yes;
}

/*
 * Where the hierarchy is mounted. Of a system with both versions the second one is in unified. *base:
 * length of it.
 */
static bool base_find(struct cgroup *g, const char *root, size_t *base)
{
	size_t at = 0;

	if (!append(g->path, &at, root, strlen(root)))
		return false;
	if (g->version == 1 && !append(g->path, &at, "/memory", 7))
		return false;
	*base = at;
	if (g->version == 2 && append(g->path, &at, "/unified", 8)) {
		if (exists(g->path))
			*base = at;
		g->path[*base] = '\0';
	}
	return true;
}

/* In a container the mount may begin below the hierarchy's root, at a group that the membership
 * names from the root on: leave out groups at its front until what is left is there. */
static bool dir_find(struct cgroup *g, size_t base, const char *dir, size_t len)
{
	for (;;) {
		size_t at = base;
		const char *next;

		while (len && dir[len - 1] == '/')
			len--;
		if (!append(g->path, &at, dir, len))
			return false;
		if (exists(g->path))
			return true;
		if (!len)
			return false;
		next = memchr(dir + 1, '/', len - 1);
		len = next ? len - (size_t)(next - dir) : 0;
		dir = next ? next : dir;
	}
}

/* ---- limits ------------------------------------------------------------------------------ */

static void level_add(struct cgroup *g, size_t dir_len)
{
	uint64_t limit = UINT64_MAX;
	uint64_t v;

	if (g->version == 1) {
		if (group_number(g, dir_len, "memory.limit_in_bytes", &v) && v < UNLIMITED_MIN)
			limit = v;
	} else {
		if (group_number(g, dir_len, "memory.max", &v))
			limit = v;
		if (group_number(g, dir_len, "memory.high", &v) && v < limit)
			limit = v;
	}
	if (limit == UINT64_MAX || g->levels == CGROUP_LEVELS)
		return;
	g->level[g->levels++] = (struct cgroup_level){ limit, (uint16_t)dir_len };
}

bool cgroup_find_in(struct cgroup *g, const char *root, const char *membership)
{
	const char *dir = NULL;
	size_t len = 0;
	size_t base;

	g->levels = 0;
	g->version = membership_find(membership, &dir, &len);
	if (!g->version || !base_find(g, root, &base) || !dir_find(g, base, dir, len)) {
		g->version = 0;
		return false;
	}
	for (len = strlen(g->path);; len--) {
		if (len == base || g->path[len] == '/' || g->path[len] == '\0')
			level_add(g, len);
		if (len == base)
			return true;
	}
}

bool cgroup_find(struct cgroup *g)
{
	g->version = 0;
	g->levels = 0;
	return read_text("/proc/self/cgroup", text, sizeof(text)) &&
	       cgroup_find_in(g, options.cgroup_root, text);
}

uint64_t cgroup_limit(const struct cgroup *g)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < g->levels; i++)
		if (g->level[i].limit < least)
			least = g->level[i].limit;
	return least;
}

/* Pages of files, which the kernel drops before it kills. */
static uint64_t file_bytes(const struct cgroup *g, size_t dir_len)
{
	if (!group_text(g, dir_len, "memory.stat", text, sizeof(text)))
		return 0;
	if (g->version == 1)
		return keyed(text, "total_inactive_file") + keyed(text, "total_active_file");
	return keyed(text, "inactive_file") + keyed(text, "active_file");
}

uint64_t cgroup_headroom(const struct cgroup *g, uint64_t enough)
{
	const char *name = g->version == 1 ? "memory.usage_in_bytes" : "memory.current";
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < g->levels; i++) {
		const struct cgroup_level *l = &g->level[i];
		uint64_t used;
		uint64_t left;

		if (!group_number(g, l->dir_len, name, &used))
			continue;
		left = used < l->limit ? l->limit - used : 0;
		if (left < enough) {
			uint64_t file = file_bytes(g, l->dir_len);

			used = file < used ? used - file : 0;
			left = used < l->limit ? l->limit - used : 0;
		}
		if (left < least)
			least = left;
	}
	return least;
}

uint64_t cgroup_events(const struct cgroup *g)
{
	size_t len = strlen(g->path);
	uint64_t v;

	if (g->version == 1)
		return group_number(g, len, "memory.failcnt", &v) ? v : 0;
	if (g->version != 2 || !group_text(g, len, "memory.events", text, sizeof(text)))
		return 0;
	return keyed(text, "high") + keyed(text, "max");
}
