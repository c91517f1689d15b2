/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.c - see export.h. Used by init, background, control and fork; uses info.
 *
 * (A) The file is written by pwrite, never mapped: whoever truncates it, or fills its disk, does
 *     the process no harm.
 * (B) It is made at the start (ourfd.h), in a directory in which no other user may rename it: one
 *     of this user or of root, that others may not write or that is sticky. It has no name (and so
 *     leaves nothing behind) until the background thread writes it for the first time, locked by
 *     then.
 * (C) Only the process that made it removes it, and only if the name still leads to it.
 * (D) name_state says who may give or take the name. The background thread goes from NAME_NONE to
 *     NAME_BEING_MADE, links the file, and goes to NAME_MADE; the thread that ends the process goes
 *     from NAME_NONE or NAME_MADE to NAME_OVER. So no file is linked after the end has looked.
 *
 * No lock: after the start, the background thread only, then the thread that ends the process,
 * which waits at most NAMING_MS for a link that is being made.
 * Allocates nothing; makes system calls.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/export.h"

#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "os/user.h"
#include "reclaim/info.h"

#define PATH_BYTES 256u
#define NAMING_MS 1000u

static struct ourfd file = OURFD_NONE;
static char path[PATH_BYTES];
static pid_t maker;
static uint64_t written_at;
enum { NAME_NONE, NAME_BEING_MADE, NAME_MADE, NAME_OVER };
static _Atomic uint32_t name_state = NAME_NONE;

/* ---- the file -------------------------------------------------------------------------------- */

static bool is_safe(int dir)
{
	struct stat st;

	if (sys_fstat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
		return false;
	if (st.st_uid == 0)
		return !(st.st_mode & 022) || (st.st_mode & S_ISVTX);
	return !(st.st_mode & 022) && user_is_own(st.st_uid);
}

/* Removes the file of a process that had this number, or of this process before it called exec. */
static bool remove_stale(int dir, const char *name)
{
	int fd = sys_openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool stale = fd >= 0 && sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
		     st.st_uid == sys_geteuid() && sys_flock(fd, LOCK_EX | LOCK_NB) == 0;

	stale = stale && sys_unlinkat(dir, name) == 0;
	if (fd >= 0)
		sys_close(fd);
	return stale;
}

/* Sets path to the name that the file will have in that directory. Returns a descriptor, or -1. */
static int make_in(const char *where)
{
	int dir = sys_open(where, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK, 0);
	size_t n = log_format(path, sizeof(path), "%s/" EXPORT_NAME "%u", where, (unsigned)maker);
	struct stat st;
	int fd = -1;

	if (dir < 0)
		return -1;
	if (n < sizeof(path) - 1 && is_safe(dir)) {
		const char *name = path + strlen(where) + 1;

		if (sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
		    remove_stale(dir, name))
			fd = sys_openat_new(dir, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
		if (fd >= 0 && sys_flock(fd, LOCK_EX | LOCK_NB) != 0) {
			sys_close(fd);
			fd = -1;
		}
	}
	sys_close(dir);
	return fd;
}

void export_init(void)
{
	static const char *const dirs[] = { EXPORT_DIRS };
	bool secure = sys_auxval(AT_SECURE) != 0;
	const char *own = environ && !secure ? getenv("XDG_RUNTIME_DIR") : NULL;
	int fd = -1;

	if (!options.export || secure || !sandbox_enter())
		return;
	maker = sys_getpid();
	if (own && own[0] == '/')
		fd = make_in(own);
	for (unsigned i = 0; i < sizeof(dirs) / sizeof(dirs[0]) && fd < 0; i++)
		fd = make_in(dirs[i]);
	if (fd < 0)
		options_say("option export: no file can be made in XDG_RUNTIME_DIR, /run, "
			    "/dev/shm or /tmp: %s",
			    log_error(errno));
	ourfd_set(&file, fd);
	sandbox_leave();
}

/* From one state to another. Both orders pair with each other: who finds a state sees the link that
 * it stands for. */
static bool name_goes(uint32_t from, uint32_t to)
{
	return atomic_compare_exchange_strong_explicit(&name_state, &from, to, memory_order_acq_rel,
						       memory_order_relaxed);
}

/* Nothing is linked from now on. Returns whether something was. */
static bool name_ends(void)
{
	uint64_t began = clock_ms();

	for (;;) {
		if (name_goes(NAME_NONE, NAME_OVER))
			return false;
		if (name_goes(NAME_MADE, NAME_OVER))
			return true;
		if (clock_ms() - began > NAMING_MS)
			return false; /* a reader will find the file without its lock */
		lock_pause();
	}
}

void export_end(void)
{
	struct stat st;

	if (!export_wanted() || sys_getpid() != maker || !name_ends() || !ourfd_good(&file) ||
	    !sandbox_enter())
		return;
	if (sys_fstatat(AT_FDCWD, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == file.dev &&
	    st.st_ino == file.ino)
		sys_unlinkat(AT_FDCWD, path);
	sandbox_leave();
}

void export_fork_child(bool copy)
{
	atomic_store_explicit(&name_state, NAME_NONE, memory_order_relaxed);
	if (copy) {
		ourfd_forget(&file);
	} else if (file.fd >= 0 && sandbox_enter()) {
		ourfd_close(&file);
		sandbox_leave();
	}
}

/* ---- what is in it --------------------------------------------------------------------------- */

struct out {
	char *text;
	size_t len;
	size_t room;
};

#define put(o, ...)                                                                                \
	((o)->len += log_format((o)->text + (o)->len, (o)->room - (o)->len, __VA_ARGS__))

static void put_value(void *arg, const char *name, uint64_t value)
{
	put((struct out *)arg, "%s %lu\n", name, (unsigned long)value);
}

size_t export_text(char *text, size_t room)
{
	static struct info_heap top[EXPORT_THREADS];
	struct out o = { text, 0, room };
	unsigned n;

	put(&o, "time_ns %lu\n", (unsigned long)clock_ns());
	info_each(false, put_value, &o);
	n = info_top_heaps(top, EXPORT_THREADS);
	for (unsigned i = 0; i < n; i++)
		put(&o, "thread %u %lu %lu %lu %lu\n", (unsigned)top[i].tid,
		    (unsigned long)top[i].cached_bytes, (unsigned long)top[i].pcp_bytes,
		    (unsigned long)top[i].refills, (unsigned long)top[i].flushes);
	return o.len;
}

bool export_wanted(void)
{
	return options.export && file.fd >= 0;
}

static void put_digits(char *to, unsigned n, uint64_t value, unsigned base)
{
	while (n--) {
		to[n] = "0123456789abcdef"[value % base];
		value /= base;
	}
}

static void write_file(void)
{
	static const char magic[16] = "sluice-export 1 "; /* not terminated */
	static char text[EXPORT_HEAD + EXPORT_TEXT_MAX];
	char *body = text + EXPORT_HEAD;
	size_t len = export_text(body, EXPORT_TEXT_MAX);
	ssize_t n;

	memcpy(text, magic, sizeof(magic));
	put_digits(text + sizeof(magic), 10, len, 10);
	text[26] = ' ';
	put_digits(text + 27, 16, export_sum(body, len), 16);
	text[EXPORT_HEAD - 1] = '\n';
	n = sys_pwrite(file.fd, text, EXPORT_HEAD + len, 0);
	(void)n; /* the disk is full: a reader sees by the sum that it is not whole */
}

/* Gives the file its name; or drops it, if that cannot be: another root directory, no /proc. */
static void name_file(void)
{
	char own[32];

	if (!name_goes(NAME_NONE, NAME_BEING_MADE))
		return;
	log_format(own, sizeof(own), "/proc/self/fd/%d", file.fd);
	if (ourfd_same_root() &&
	    sys_linkat(AT_FDCWD, own, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0) {
		name_goes(NAME_BEING_MADE, NAME_MADE);
	} else {
		name_goes(NAME_BEING_MADE, NAME_NONE);
		ourfd_close(&file);
	}
}

void export_tick(void)
{
	uint64_t now = clock_ms();

	if (!export_wanted() || now - written_at < EXPORT_MS / 2 || !sandbox_enter())
		return;
	if (ourfd_good(&file)) {
		write_file();
		name_file();
	}
	written_at = now;
	sandbox_leave();
}
