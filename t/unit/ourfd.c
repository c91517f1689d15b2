/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The library's own descriptors: their numbers, whether they are still the library's, and which
 * files are not opened.
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

#define NUMBERS 1100

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

/* Closes the number behind o's back, and lets the program open a file there. */
static void put_there(const struct ourfd *o, int fd)
{
	if (dup2(fd, o->fd) < 0)
		tap_bail_out("cannot make a descriptor");
	close(fd);
}

/* ---- ours ----------------------------------------------------------------------------------- */

/* One above the highest number that is ours to take. */
static int top(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		tap_bail_out("no limit of descriptors");
	return limit.rlim_cur < 1024 ? (int)limit.rlim_cur : 1024;
}

static void test_set(void)
{
	unsigned before = open_numbers();
	int low = opened("a");
	struct ourfd o = OURFD_NONE;

	ourfd_set(&o, low);
	is_int(o.fd, top() - 1, "a descriptor of ours has the highest number below the limit");
	ok(fcntl(low, F_GETFD) < 0, "the number at which a descriptor was opened is free again");
	is_int(fcntl(o.fd, F_GETFD), FD_CLOEXEC, "a descriptor of ours does not outlive an exec");
	ok(ourfd_good(&o), "a descriptor of ours is recognized");
	ourfd_close(&o);
	ok(o.fd < 0 && !ourfd_good(&o), "a closed descriptor is no longer ours");
	is_int(open_numbers(), before, "closing leaves no number behind");
	ourfd_set(&o, -1);
	ok(o.fd == -1 && !ourfd_good(&o), "a file that could not be opened gives no descriptor");
	ourfd_close(&o);
}

static void test_taken(void)
{
	struct ourfd o = OURFD_NONE;
	int number;

	ourfd_set(&o, opened("a"));
	number = o.fd;
	put_there(&o, opened("b"));
	ok(!ourfd_good(&o), "another file of the same directory at our number is not ours");
	ok(o.fd < 0, "a lost descriptor is not asked for again");
	ourfd_close(&o);
	ok(fcntl(number, F_GETFD) >= 0, "the program's file at our number is not closed");
	close(number);

	ourfd_set(&o, opened("a"));
	number = o.fd;
	close(number);
	ourfd_close(&o);
	ok(o.fd < 0 && fcntl(number, F_GETFD) < 0,
	   "a descriptor that the program closed is no longer ours");

	ourfd_set(&o, opened("a"));
	close(o.fd);
	ourfd_set(&o, opened("a"));
	is_int(o.fd, top() - 1, "nor is the number below it the next one");
	ourfd_close(&o);
}

static void test_event(void)
{
	struct ourfd o = OURFD_NONE;
	int number;

	ourfd_set_event(&o, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	ok(o.fd >= 100 && o.event && ourfd_good(&o), "an eventfd is ours");
	number = o.fd;
	put_there(&o, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	ok(!ourfd_good(&o), "an eventfd of the program's is not ours, though all have one inode");
	close(number);
	ourfd_set_event(&o, -1);
	ok(o.fd < 0 && !ourfd_good(&o), "an eventfd that could not be made gives no descriptor");
}

/* No number of 100 or more is available. */
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

/* The limit falls to 102 while a descriptor of ours is above it. */
static void limit_lowered(void *arg)
{
	struct rlimit limit;
	struct ourfd high = OURFD_NONE;
	struct ourfd o[3] = { OURFD_NONE, OURFD_NONE, OURFD_NONE };

	(void)arg;
	ourfd_set(&high, opened("a"));
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		_exit(3);
	limit.rlim_cur = 102;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		_exit(4);
	for (int i = 0; i < 3; i++)
		ourfd_set(&o[i], opened("a"));
	if (o[0].fd != 101 || o[1].fd != 100 || o[2].fd != -1)
		_exit(5);
	if (high.fd <= 101 || !ourfd_good(&high))
		_exit(6);
	ourfd_close(&high);
	if (high.fd != -1)
		_exit(7);
}

/* ---- what is not opened --------------------------------------------------------------------- */

static void test_open(void)
{
	unsigned before = open_numbers();
	int fd;

	if (mkfifo(path("fifo"), 0600) != 0 || symlink("a", path("link")) != 0)
		tap_bail_out("no file to be made in %s", dir);
	ok(ourfd_directory(dir, OURFD_PROC) < 0,
	   "a directory outside of proc is not taken for proc's");
	ok(ourfd_directory(dir, OURFD_CGROUP) < 0,
	   "a directory outside of a cgroup file system is not taken for a cgroup");
	ok(ourfd_directory(path("a"), OURFD_ANY) < 0, "a file is not taken for a directory");
	fd = ourfd_directory("/proc", OURFD_PROC);
	ok(fd >= 0, "proc's directory is opened");
	close(fd);
	fd = ourfd_directory(dir, OURFD_ANY);
	ok(fd >= 0, "any directory will do where any may be asked for");
	ok(ourfd_open(fd, "a", O_RDONLY, OURFD_PROC) < 0,
	   "a file outside of proc is not opened as one of proc");
	ok(ourfd_open(fd, "link", O_RDONLY, OURFD_ANY) < 0, "a link is not followed");
	ok(ourfd_open(fd, "fifo", O_WRONLY, OURFD_ANY) < 0,
	   "opening a pipe without a reader does not wait");
	close(fd);
	is_int(open_numbers(), before, "what was rejected is closed again");
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
	is_int(errno, 77, "the library's start keeps errno");
	ok(ourfd_proc >= 0, "looking for proc keeps errno");
	ourfd_opened();
	is_int(ourfd_proc, -1, "proc does not stay open");
	/* An emulator may have a thread of its own. */
	ok(ourfd_threads() == 1 || (tap_emulated() && ourfd_threads() > 0),
	   "the number of the process's threads can be read");
	ok(ourfd_same_root(), "the root directory is unchanged");
	if (geteuid() != 0)
		tap_skip(1, "only root changes it");
	else
		ok(child_is_well(in_another_root, NULL), "a chroot is noticed");
}

int main(void)
{
	char command[128];

	tap_plan(32);
	if (!mkdtemp(dir))
		tap_bail_out("cannot make a directory in /tmp");
	test_set();
	test_taken();
	test_event();
	ok(child_is_well(few_numbers, NULL),
	   "without free numbers of 100 or more no descriptor is kept or left open");
	ok(child_is_well(limit_lowered, NULL),
	   "with a lower limit the numbers are counted down to 100, and those above stay good");
	test_open();
	test_root();
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		tap_diag("%s is left over", dir);
	return tap_done();
}
