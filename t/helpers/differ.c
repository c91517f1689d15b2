/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program that changes what the kernel keeps for each thread. No thread of the process, ours
 * included, may be left with what was before. Usage: differ CASE. Status 77: the machine or the
 * user's rights do not allow the case.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "lib/check.h"

#define TRIES 12000 /* of 5 ms */
#define UNSHARE 2u  /* CLOSE_RANGE_UNSHARE */

static void nap(void)
{
	const struct timespec ts = { 0, 5000000 };

	nanosleep(&ts, NULL);
}

/* More than bins and pcps hold. */
static void *allocates(void *arg)
{
	enum { N = 4000 };
	void **p = malloc(N * sizeof *p);

	for (int i = 0; i < N; i++)
		p[i] = malloc(2000);
	for (int i = 0; i < N; i++)
		free(p[i]);
	free(p);
	return arg;
}

static volatile int hold;

static void *is_held(void *arg)
{
	free(malloc(100));
	while (hold)
		nap();
	return arg;
}

static pthread_t make(void)
{
	pthread_t t;

	hold = 1;
	if (pthread_create(&t, NULL, is_held, NULL) != 0)
		_exit(98);
	return t;
}

static void join(pthread_t t)
{
	hold = 0;
	pthread_join(t, NULL);
}

/* ---- the threads of the process -------------------------------------------------------------- */

/* What /proc says of a thread: the link `file`, or its text; "" if there is nothing. */
static void read_task(const char *tid, const char *file, char *text, size_t size)
{
	char path[300];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/self/task/%s/%s", tid, file);
	n = readlink(path, text, size - 1);
	if (n < 0 && (fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0) {
		n = read(fd, text, size - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
}

/* Lines of /proc/self/task/TID/status that begin so. */
static void read_status(const char *tid, char *text, size_t size)
{
	static const char *const lines[] = { "Uid:",    "CapInh:", "CapPrm:",    "CapEff:",
					     "CapBnd:", "CapAmb:", "NoNewPrivs:" };
	char all[8192];
	size_t n = 0;

	read_task(tid, "status", all, sizeof all);
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		const char *at = strstr(all, lines[i]);

		if (at)
			n += (size_t)snprintf(text + n, size - n, "%.*s ", (int)strcspn(at, "\n"),
					      at);
	}
}

/* How many threads differ from the first one in `file` ("status": in its privileges). */
static unsigned differing(const char *file)
{
	DIR *d = opendir("/proc/self/task");
	char mine[2048] = "";
	char self[32];
	unsigned n = 0;

	snprintf(self, sizeof self, "%d", (int)getpid());
	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
		char its[2048] = "";
		bool is_status = strcmp(file, "status") == 0;

		if (e->d_name[0] == '.')
			continue;
		if (is_status) {
			read_status(self, mine, sizeof mine);
			read_status(e->d_name, its, sizeof its);
		} else {
			read_task(self, file, mine, sizeof mine);
			read_task(e->d_name, file, its, sizeof its);
		}
		if (strcmp(mine, its) != 0) {
			helper_say("    %s: '%s', not '%s'", e->d_name, its, mine);
			n++;
		}
	}
	if (d)
		closedir(d);
	return n;
}

/* The TID of our thread; 0 if there is none. */
static int ours(void)
{
	DIR *d = opendir("/proc/self/task");
	int tid = 0;

	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
		char name[64];

		read_task(e->d_name, "comm", name, sizeof name);
		if (e->d_name[0] != '.' && strcmp(name, "sluice\n") == 0)
			tid = (int)strtol(e->d_name, NULL, 10);
	}
	if (d)
		closedir(d);
	return tid;
}

static int comes(void)
{
	int tid = 0;

	for (int i = 0; i < TRIES && (tid = ours()) == 0; i++) {
		free(malloc(100));
		allocates(NULL);
		nap();
	}
	return tid;
}

/* ---- the changes ----------------------------------------------------------------------------- */

static int pipe_end[2];

static int mounts(void)
{
	return unshare(CLONE_NEWNS);
}

static int mounts_by_number(void)
{
	return (int)syscall(SYS_unshare, CLONE_NEWNS);
}

static int directory(void)
{
	return unshare(CLONE_FS) != 0 || chdir("/proc") != 0 ? -1 : 0;
}

static int files(void)
{
	return unshare(CLONE_FILES) != 0 || close(pipe_end[1]) != 0 ? -1 : 0;
}

static int range(void)
{
	int (*fn)(unsigned, unsigned, int) = NULL;

	*(void **)&fn = dlsym(RTLD_DEFAULT, "close_range");
	if (!fn) {
		errno = ENOSYS;
		return -1;
	}
	return fn((unsigned)pipe_end[1], (unsigned)pipe_end[1], UNSHARE);
}

static int range_by_number(void)
{
	return (int)syscall(SYS_close_range, pipe_end[1], pipe_end[1], UNSHARE);
}

static int network(void)
{
	return unshare(CLONE_NEWNET);
}

/* Into the namespace where it is: also a change. */
static int enters(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int r = setns(fd, CLONE_NEWNET);

	close(fd);
	return r;
}

static int no_new_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int bounding_set(void)
{
	return prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0);
}

int capset(struct __user_cap_header_struct *, const struct __user_cap_data_struct *);

static int capabilities(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { 0 };

	return capset(&header, none);
}

static int capabilities_by_number(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { 0 };

	return (int)syscall(SYS_capset, &header, none);
}

/* Unlike libc's setresuid, for the calling thread only. */
static int user(void)
{
	return (int)syscall(SYS_setresuid, 65534, 65534, 65534);
}

static int landlock(void)
{
	struct {
		uint64_t fs;
	} handled = { 1 };
	int fd = (int)syscall(444, &handled, sizeof handled, 0);

	if (fd < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return (int)syscall(446, fd, 0);
}

static const struct {
	const char *name;
	int (*change)(void);
	const char *file; /* what is compared; NULL: the descriptor of the pipe */
} changes[] = {
	{ "mounts", mounts, "ns/mnt" },
	{ "mounts-by-number", mounts_by_number, "ns/mnt" },
	{ "directory", directory, "cwd" },
	{ "files", files, NULL },
	{ "range", range, NULL },
	{ "range-by-number", range_by_number, NULL },
	{ "network", network, "ns/net" },
	{ "enters", enters, "ns/net" },
	{ "no-new-privileges", no_new_privileges, "status" },
	{ "bounding-set", bounding_set, "status" },
	{ "capabilities", capabilities, "status" },
	{ "capabilities-by-number", capabilities_by_number, "status" },
	{ "user", user, "status" },
	{ "landlock", landlock, "status" },
};

/* ---- the cases ------------------------------------------------------------------------------- */

static int impossible(void)
{
	return errno == EPERM || errno == EACCES || errno == ENOSYS || errno == EOPNOTSUPP ||
	       errno == EINVAL || errno == ENOSPC;
}

static uint64_t counter(const char *name)
{
	int (*stat)(const char *, uint64_t *) = NULL;
	uint64_t value = 0;

	*(void **)&stat = dlsym(RTLD_DEFAULT, "sluice_stat");
	CHECK(stat && stat(name, &value) == 0, "sluice_stat(%s)", name);
	return value;
}

/* The program's thread has ended just before the change. Threads that are made later, and ours,
 * have what is new. */
static int joined(int (*change)(void), const char *file)
{
	pthread_t t = make();
	int before = comes();
	int after;

	CHECK(before != 0, "it does not start");
	join(t);
	if (change() != 0)
		return impossible() ? 77 : 1;
	t = make();
	after = comes();
	CHECK(after != 0 && after != before, "%d before, %d after", before, after);
	CHECK(differing(file) == 0, "threads have what was before");
	join(t);
	return helper_end();
}

/* The program has another thread, which keeps what was before. Ours goes, and does not come
 * again. In a child it does. */
static int beside(int (*change)(void))
{
	pthread_t t = make();
	pthread_t more[4];
	int status = 0;
	pid_t pid;

	CHECK(comes() != 0, "it does not start");
	if (change() != 0)
		return impossible() ? 77 : 1;
	CHECK(ours() == 0, "it is there after the change");
	for (int i = 0; i < 20; i++) {
		for (int k = 0; k < 4; k++)
			pthread_create(&more[k], NULL, allocates, NULL);
		allocates(NULL);
		for (int k = 0; k < 4; k++)
			pthread_join(more[k], NULL);
		CHECK(ours() == 0, "it has come again");
	}
	CHECK(counter("threads_differ") == 1, "as it says");
	pid = fork();
	if (pid == 0) {
		t = make();
		CHECK(comes() != 0, "it does not start in a child");
		join(t);
		_exit(helper_failed != 0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "a child");
	join(t);
	return helper_end();
}

/* All goes on. */
static int fails(void)
{
	pthread_t t = make();
	pthread_t more;

	CHECK(comes() != 0, "it does not start");
	for (int i = 0; i < 5; i++) {
		errno = 0;
		CHECK(setns(-1, CLONE_NEWNET) == -1 && errno == EBADF, "errno %d", errno);
		errno = 0;
		CHECK(unshare(CLONE_NEWUSER) == -1 && errno != 0, "errno %d", errno);
		errno = 0;
		CHECK(syscall(SYS_close_range, 9, 3, UNSHARE) == -1 && errno != 0, "errno %d",
		      errno);
		CHECK(comes() != 0, "it does not come again");
	}
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 2, 0, 0, 0) == -1 && errno == EINVAL, "errno %d", errno);
	pthread_create(&more, NULL, allocates, NULL);
	pthread_join(more, NULL);
	CHECK(comes() != 0, "it does not come again");
	CHECK(counter("threads_differ") == 0, "as it says");
	join(t);
	return helper_end();
}

/* A child of vfork changes only itself. */
static int by_vfork(void)
{
	pthread_t t = make();
	int before = comes();
	int status = 0;
	pid_t pid = vfork();

	if (pid == 0)
		_exit(syscall(SYS_unshare, CLONE_FILES | CLONE_FS) != 0 ||
		      syscall(SYS_close_range, 900, 900, UNSHARE) != 0 ||
		      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0);
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the child");
	CHECK(before != 0 && ours() == before, "it has left");
	CHECK(counter("threads_differ") == 0, "as it says");
	join(t);
	return helper_end();
}

/* Many threads change at the same time while others start and end. */
static void *changes_again(void *arg)
{
	for (int i = 0; i < 50; i++) {
		pthread_t t;

		if (pthread_create(&t, NULL, allocates, NULL) == 0)
			pthread_join(t, NULL);
		CHECK(unshare(CLONE_FS) == 0, "errno %d", errno);
		CHECK(setns(-1, 0) == -1 && errno == EBADF, "errno %d", errno);
	}
	return arg;
}

static int storm(void)
{
	pthread_t t[6];

	for (int i = 0; i < 6; i++)
		CHECK(pthread_create(&t[i], NULL, changes_again, NULL) == 0, "no thread");
	for (int i = 0; i < 6; i++)
		pthread_join(t[i], NULL);
	CHECK(ours() == 0, "it is there");
	return helper_end();
}

/* Privileges: another thread keeps them, so ours comes again, as a new one. */
static int again(int (*change)(void))
{
	pthread_t t = make();
	int before = comes();

	CHECK(before != 0, "it does not start");
	if (change() != 0)
		return impossible() ? 77 : 1;
	CHECK(ours() != before, "it is there after the change");
	CHECK(comes() != 0, "it does not come again");
	CHECK(counter("threads_differ") == 0, "nothing differs for good");
	join(t);
	return helper_end();
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	char file[32];

	if (pipe2(pipe_end, O_CLOEXEC) != 0)
		return 2;
	if (strcmp(how, "fails") == 0)
		return fails();
	if (strcmp(how, "vfork") == 0)
		return by_vfork();
	if (strcmp(how, "storm") == 0)
		return storm();
	for (size_t i = 0; argc > 2 && i < sizeof changes / sizeof *changes; i++) {
		if (strcmp(argv[2], changes[i].name) != 0)
			continue;
		snprintf(file, sizeof file, "fd/%d", pipe_end[1]);
		if (strcmp(how, "again") == 0)
			return again(changes[i].change);
		return strcmp(how, "beside") == 0
			       ? beside(changes[i].change)
			       : joined(changes[i].change,
					changes[i].file ? changes[i].file : file);
	}
	return 2;
}
