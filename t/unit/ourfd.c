/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors of the library's own: where they are, whether they are ours still, and what is not opened.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/child.h"
#include "base/ourfd.h"
#include "lib/tap.h"

#define NUMBERS 400

static char dir[] = "/tmp/sluice-ourfd.XXXXXX";

static unsigned open_numbers(void)
{
	unsigned n = 0;

	for (int i = 0; i < NUMBERS; i++)
		n += fcntl(i, F_GETFD) >= 0;
	return n;
}

static const char *path(const char *name)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s/%s", dir, name);
	return text;
}

static int opened(const char *name)
{
	int fd = open(path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		tap_bail_out("%s cannot be made", path(name));
	return fd;
}

/* Closes the number behind o's back, and has the program open something there. */
static void put_there(const struct ourfd *o, int fd)
{
	if (dup2(fd, o->fd) < 0)
		tap_bail_out("no descriptor to be had");
	close(fd);
}

/* ---- ours ----------------------------------------------------------------------------------- */

static void test_set(void)
{
	unsigned before = open_numbers();
	int low = opened("a");
	struct ourfd o = OURFD_NONE;

	ourfd_set(&o, low);
	ok(o.fd >= 100, "a descriptor of ours has a number of 100 or more");
	ok(fcntl(low, F_GETFD) < 0, "and the number that it came with is free");
	is_int(fcntl(o.fd, F_GETFD), FD_CLOEXEC, "it does not outlive an exec");
	ok(ourfd_good(&o), "it is ours");
	ourfd_close(&o);
	ok(o.fd < 0 && !ourfd_good(&o), "until it is closed");
	is_int(open_numbers(), before, "which leaves no number behind");
	ourfd_set(&o, -1);
	ok(o.fd == -1 && !ourfd_good(&o), "of what could not be opened there is none");
	ourfd_close(&o);
}

static void test_taken(void)
{
	struct ourfd o = OURFD_NONE;
	int number;

	ourfd_set(&o, opened("a"));
	number = o.fd;
	put_there(&o, opened("b"));
	ok(!ourfd_good(&o),
	   "where the program has another file of the same directory, it is not ours");
	ok(o.fd < 0, "and is not asked for again");
	ourfd_close(&o);
	ok(fcntl(number, F_GETFD) >= 0, "nor closed");
	close(number);

	ourfd_set(&o, opened("a"));
	number = o.fd;
	close(number);
	ourfd_close(&o);
	ok(o.fd < 0 && fcntl(number, F_GETFD) < 0, "one that the program closed is none any more");
}

static void test_event(void)
{
	struct ourfd o = OURFD_NONE;
	int number;

	ourfd_set_event(&o, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	ok(o.fd >= 100 && o.event && ourfd_good(&o), "an eventfd is ours");
	number = o.fd;
	put_there(&o, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	ok(!ourfd_good(&o), "and one of the program's is not, though all have one inode");
	close(number);
	ourfd_set_event(&o, -1);
	ok(o.fd < 0 && !ourfd_good(&o), "of one that could not be had there is none");
}

/* No number of 100 or more may be had. */
static void few_numbers(void *arg)
{
	const struct rlimit few = { 60, 60 };
	unsigned before = open_numbers();
	struct ourfd o = OURFD_NONE;

	(void)arg;
	if (setrlimit(RLIMIT_NOFILE, &few) != 0)
		_exit(3);
	ourfd_set(&o, opened("a"));
	if (o.fd != -1)
		_exit(4);
	ourfd_set_event(&o, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	if (o.fd != -1 || open_numbers() != before)
		_exit(5);
}

/* ---- what is not opened --------------------------------------------------------------------- */

static void test_open(void)
{
	unsigned before = open_numbers();
	int fd;

	if (mkfifo(path("fifo"), 0600) != 0 || symlink("a", path("link")) != 0)
		tap_bail_out("no file to be made in %s", dir);
	ok(ourfd_directory(dir, OURFD_PROC) < 0,
	   "a directory that is not proc's is not taken for it");
	ok(ourfd_directory(dir, OURFD_CGROUP) < 0, "nor for one of cgroups");
	ok(ourfd_directory(path("a"), OURFD_ANY) < 0, "a file is no directory");
	fd = ourfd_directory("/proc", OURFD_PROC);
	ok(fd >= 0, "that of proc is");
	close(fd);
	fd = ourfd_directory(dir, OURFD_ANY);
	ok(fd >= 0, "any directory will do where any may be asked for");
	ok(ourfd_open(fd, "a", O_RDONLY, OURFD_PROC) < 0,
	   "a file that is not proc's is not opened as such");
	ok(ourfd_open(fd, "link", O_RDONLY, OURFD_ANY) < 0, "a link is not followed");
	ok(ourfd_open(fd, "fifo", O_WRONLY, OURFD_ANY) < 0,
	   "a pipe that nobody reads is not waited for");
	close(fd);
	is_int(open_numbers(), before, "what was not taken is closed again");
}

static void in_another_root(void *arg)
{
	(void)arg;
	if (!ourfd_same_root())
		_exit(3);
	if (chroot(dir) != 0)
		_exit(4);
	if (ourfd_same_root())
		_exit(5);
}

static void test_root(void)
{
	errno = 77;
	ourfd_init();
	is_int(errno, 77, "errno is kept at the start");
	ok(ourfd_proc >= 0, "when proc is looked for");
	ourfd_opened();
	is_int(ourfd_proc, -1, "which does not stay open");
	/* An emulator may have a thread of its own. */
	ok(ourfd_threads() == 1 || (tap_emulated() && ourfd_threads() > 0),
	   "but the process's number of threads can be read");
	ok(ourfd_same_root(), "the root is what it was");
	if (geteuid() != 0)
		tap_skip(1, "only root changes it");
	else
		ok(child_is_well(in_another_root, NULL), "and is another one after a chroot");
}

int main(void)
{
	char command[128];

	tap_plan(30);
	if (!mkdtemp(dir))
		tap_bail_out("no directory to be had in /tmp");
	test_set();
	test_taken();
	test_event();
	ok(child_is_well(few_numbers, NULL),
	   "where there are no such numbers there is none, and none is left open");
	test_open();
	test_root();
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		tap_diag("%s is left over", dir);
	return tap_done();
}
