/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cgroup.c - see cgroup.h. Used by limits, pressure and psi; uses the primitives.
 *
 * (A) All files are opened at the start (ourfd.h says why). Those of groups that have a limit stay
 *     open, four per group, and are read from their beginning each time (pread), in a fork child as
 *     well. If a group gets its first limit later, or the process moves to another group, that is
 *     not noticed.
 * (B) What cannot be read or understood counts as no limit.
 *
 * Lock: the caller's, one caller at a time. No allocation, no stdio; keeps errno. Enters the
 * kernel, so do not call it under a lock or in a critical section. May run in a signal handler and
 * in a fork child. Reading a file takes 1 us.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "os/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/options.h"
#include "base/sys.h"

#define TEXT_BYTES 4096u
#define NAME_BYTES 64u
#define UNLIMITED_MIN (UINT64_C(1) << 60) /* version 1 has no word for "none" */

/* Guarded by: the caller, one at a time. Static, because a thread's stack may be small. */
static char text[TEXT_BYTES];
static char file_path[CGROUP_PATH_MAX + NAME_BYTES];

static enum ourfd_fs kind; /* guarded in the same way: the file system of the files */

/* Reads a file from its beginning, at most len - 1 bytes. A file of one line is not read to its
 * end, which would be one more call. Returns false if there is no text. */
static bool read_text(int fd, char *out, size_t len, bool one_line)
{
	int saved = errno;
	size_t got = 0;
	ssize_t n;

	while (fd >= 0 && got < len - 1 && !(one_line && got && out[got - 1] == '\n') &&
	       (n = sys_pread(fd, out + got, len - 1 - got, (off_t)got)) > 0)
		got += (size_t)n;
	out[got] = '\0';
	errno = saved;
	return got != 0;
}

/* Parses a decimal number up to white space or the end. Returns false if it is none. */
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

/* The directory of the hierarchy, from cgroup_find_in to cgroup_found. */
static int base_dir = -1;

/* Writes the first dir_len bytes of the group's path to file_path, relative to base_dir. Returns
 * the length. */
static size_t group_path(const struct cgroup *g, size_t dir_len)
{
	size_t len = dir_len - g->base;

	file_path[0] = '.';
	memcpy(file_path + 1, g->path + g->base, len);
	file_path[1 + len] = '\0';
	return 1 + len;
}

/* Opens a file of the group whose directory is the first dir_len bytes of the path. */
static int group_open(const struct cgroup *g, size_t dir_len, const char *name, int flags)
{
	size_t len = group_path(g, dir_len);

	file_path[len] = '/';
	memcpy(file_path + len + 1, name, strlen(name) + 1);
	return ourfd_open(base_dir, file_path, flags, kind);
}

static bool file_text(struct ourfd *file, char *out, size_t len, bool one_line)
{
	return ourfd_good(file) && read_text(file->fd, out, len, one_line);
}

static bool file_number(struct ourfd *file, uint64_t *out)
{
	char digits[NAME_BYTES];

	return file_text(file, digits, sizeof(digits), true) && parse_bytes(digits, out);
}

/* The number behind "key " at the start of a line. Returns 0 if there is none. */
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
 * Lines are ID:CONTROLLERS:PATH. The memory controller is in a list of version 1, or in version 2,
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

/* Whether the group's path is a directory. */
static bool exists(const struct cgroup *g)
{
	struct stat st;

	group_path(g, strlen(g->path));
	return sys_fstatat(base_dir, file_path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISDIR(st.st_mode);
}

/* Finds where the hierarchy is mounted. A system with both versions has version 2 in `unified`. */
static bool base_find(struct cgroup *g, const char *root)
{
	size_t at = 0;

	if (!append(g->path, &at, root, strlen(root)))
		return false;
	if (g->version == 1 && !append(g->path, &at, "/memory", 7))
		return false;
	g->base = at;
	if (g->version == 2 && append(g->path, &at, "/unified", 8)) {
		base_dir = ourfd_directory(g->path, kind);
		if (base_dir >= 0)
			g->base = at;
		g->path[g->base] = '\0';
	}
	if (base_dir < 0)
		base_dir = ourfd_directory(g->path, kind);
	return base_dir >= 0;
}

/* In a container the mount may begin at a group below the hierarchy's root, while the membership
 * names groups from the root on. So leave out leading groups until the rest exists. */
static bool dir_find(struct cgroup *g, const char *dir, size_t len)
{
	for (;;) {
		size_t at = g->base;
		const char *next;

		while (len && dir[len - 1] == '/')
			len--;
		if (!append(g->path, &at, dir, len))
			return false;
		if (exists(g))
			return true;
		if (!len)
			return false;
		next = memchr(dir + 1, '/', len - 1);
		len = next ? len - (size_t)(next - dir) : 0;
		dir = next ? next : dir;
	}
}

/* ---- limits ------------------------------------------------------------------------------ */

static const char *const file_names[2][CGROUP_FILES] = {
	{ "memory.limit_in_bytes", NULL, "memory.usage_in_bytes", "memory.stat" },
	{ "memory.max", "memory.high", "memory.current", "memory.stat" },
};

static uint64_t level_limit(struct cgroup_level *l)
{
	uint64_t limit = UINT64_MAX;
	uint64_t v;

	for (unsigned i = CGROUP_LIMIT; i <= CGROUP_HIGH; i++)
		if (file_number(&l->file[i], &v) && v < UNLIMITED_MIN && v < limit)
			limit = v;
	return limit;
}

static void level_file(struct cgroup *g, struct cgroup_level *l, unsigned file)
{
	const char *name = file_names[g->version - 1][file];

	ourfd_set(&l->file[file], name ? group_open(g, l->dir_len, name, O_RDONLY) : -1);
}

/* Reads the limit before any file is kept open, because most groups have none. */
static uint64_t first_limit(const struct cgroup *g, size_t dir_len)
{
	uint64_t limit = UINT64_MAX;

	for (unsigned i = CGROUP_LIMIT; i <= CGROUP_HIGH; i++) {
		const char *name = file_names[g->version - 1][i];
		int fd = name ? group_open(g, dir_len, name, O_RDONLY) : -1;
		char digits[NAME_BYTES];
		uint64_t v;

		if (read_text(fd, digits, sizeof(digits), true) && parse_bytes(digits, &v) &&
		    v < UNLIMITED_MIN && v < limit)
			limit = v;
		if (fd >= 0)
			sys_close(fd);
	}
	return limit;
}

static void level_close(struct cgroup_level *l)
{
	for (unsigned i = 0; i < CGROUP_FILES; i++)
		ourfd_close(&l->file[i]);
}

static void level_add(struct cgroup *g, size_t dir_len)
{
	struct cgroup_level *l = &g->level[g->levels];

	if (g->levels == CGROUP_LEVELS)
		return;
	*l = (struct cgroup_level){ .dir_len = (uint16_t)dir_len };
	for (unsigned i = 0; i < CGROUP_FILES; i++)
		l->file[i].fd = -1;
	l->limit = first_limit(g, dir_len);
	if (l->limit == UINT64_MAX)
		return;
	for (unsigned i = 0; i < CGROUP_FILES; i++)
		level_file(g, l, i);
	g->levels++;
}

static void close_all(struct cgroup *g)
{
	for (unsigned i = 0; i < g->levels; i++)
		level_close(&g->level[i]);
	if (g->version)
		ourfd_close(&g->events);
	g->levels = 0;
	g->version = 0;
	ourfd_forget(&g->events);
}

static bool find(struct cgroup *g, const char *root, const char *dir, size_t len)
{
	if (!base_find(g, root) || !dir_find(g, dir, len))
		return false;
	for (len = strlen(g->path);; len--) {
		if (len == g->base || g->path[len] == '/' || g->path[len] == '\0')
			level_add(g, len);
		if (len == g->base)
			return true;
	}
}

static void base_close(void)
{
	if (base_dir >= 0)
		sys_close(base_dir);
	base_dir = -1;
}

bool cgroup_find_in(struct cgroup *g, const char *root, const char *membership, enum ourfd_fs fs)
{
	int saved = errno;
	const char *dir = NULL;
	size_t len = 0;

	base_close();
	close_all(g);
	kind = fs;
	g->version = membership_find(membership, &dir, &len);
	if (g->version && !find(g, root, dir, len))
		g->version = 0;
	if (g->version && g->levels)
		ourfd_set(&g->events,
			  cgroup_open(g, g->version == 1 ? "memory.failcnt" : "memory.events",
				      O_RDONLY));
	errno = saved;
	return g->version != 0;
}

int cgroup_open(const struct cgroup *g, const char *name, int flags)
{
	return group_open(g, strlen(g->path), name, flags);
}

void cgroup_found(void)
{
	base_close();
}

/* If the option names another place, the files may be on any file system. */
bool cgroup_find(struct cgroup *g)
{
	bool usual = strcmp(options.cgroup_root, "/sys/fs/cgroup") == 0;
	enum ourfd_fs fs = usual ? OURFD_CGROUP : OURFD_ANY;
	int fd = ourfd_proc >= 0 ? ourfd_open(ourfd_proc, "self/cgroup", O_RDONLY,
					      usual ? OURFD_PROC : OURFD_ANY)
				 : -1;
	bool known = read_text(fd, text, sizeof(text), false);
	struct stat st;

	if (fd >= 0)
		sys_close(fd);
	if (!usual &&
	    (sys_fstatat(AT_FDCWD, options.cgroup_root, &st, 0) != 0 || !S_ISDIR(st.st_mode)))
		options_say("option cgroup_root: '%s' is not a directory that can be reached",
			    options.cgroup_root);
	return known && cgroup_find_in(g, options.cgroup_root, text, fs);
}

void cgroup_refresh(struct cgroup *g)
{
	for (unsigned i = 0; i < g->levels; i++)
		g->level[i].limit = level_limit(&g->level[i]);
}

uint64_t cgroup_limit(const struct cgroup *g)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < g->levels; i++)
		if (g->level[i].limit < least)
			least = g->level[i].limit;
	return least;
}

/* Bytes of file pages, which the kernel drops before it kills a process. */
static uint64_t file_bytes(const struct cgroup *g, struct cgroup_level *l)
{
	if (!file_text(&l->file[CGROUP_STAT], text, sizeof(text), false))
		return 0;
	if (g->version == 1)
		return keyed(text, "total_inactive_file") + keyed(text, "total_active_file");
	return keyed(text, "inactive_file") + keyed(text, "active_file");
}

uint64_t cgroup_headroom(struct cgroup *g, uint64_t enough)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < g->levels; i++) {
		struct cgroup_level *l = &g->level[i];
		uint64_t used;
		uint64_t left;

		if (!file_number(&l->file[CGROUP_USAGE], &used))
			continue;
		left = used < l->limit ? l->limit - used : 0;
		if (left < enough) {
			uint64_t file = file_bytes(g, l);

			used = file < used ? used - file : 0;
			left = used < l->limit ? l->limit - used : 0;
		}
		if (left < least)
			least = left;
	}
	return least;
}

uint64_t cgroup_events(struct cgroup *g)
{
	uint64_t v;

	if (!g->levels)
		return 0;
	if (g->version == 1)
		return file_number(&g->events, &v) ? v : 0;
	if (!file_text(&g->events, text, sizeof(text), false))
		return 0;
	return keyed(text, "high") + keyed(text, "max");
}
