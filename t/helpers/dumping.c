/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Profiles that are written where it is hard: to a terminal that nobody reads, past files of
 * others, in a process that ends.
 *
 * usage: dumping names|given|limit|numbers|closed|child|stuck|slow|whole
 *
 * The files lie in the working directory. stuck and slow exit while a dump waits; slow reads from
 * then on. Needs prof:true,prof_sample:1. Exit status 77: there are no terminals.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/check.h"
#include "../lib/fd.h"

typedef int mallctl_function(const char *name, void *old, size_t *old_bytes, void *new,
			     size_t bytes);

#define DEPTH 11

static int dump(const char *file)
{
	void *found = dlsym(RTLD_DEFAULT, "mallctl");
	mallctl_function *f;

	memcpy(&f, &found, sizeof(f));
	return f ? f("prof.dump", NULL, NULL, &file, sizeof(file)) : -1;
}

/* ---- a terminal ----------------------------------------------------------------------------- */

static int terminal = -1; /* the end that reads */
static char terminal_name[64];
static int result = -1;
static sem_t reads;

/* A stack for each combination of bits, so that a profile is longer than terminals buffer. */
static __attribute__((noinline)) void *by_stack(unsigned bits, unsigned depth)
{
	void *p;

	if (!depth) {
		p = malloc(100);
	} else if (bits & 1) {
		p = by_stack(bits >> 1, depth - 1);
	} else {
		p = by_stack(bits >> 1, depth - 1);
		__asm__ volatile("nop" : "+r"(p)); /* another place than the call above */
	}
	__asm__ volatile("" : "+r"(p) : "r"(bits) : "memory"); /* not a tail call */
	return p;
}

static void open_terminal(void)
{
	if (terminal < 0)
		for (unsigned i = 0; i < 1u << DEPTH; i++)
			CHECK(by_stack(i, DEPTH), "no memory");
	terminal = posix_openpt(O_RDWR | O_NOCTTY);
	if (terminal < 0 || grantpt(terminal) || unlockpt(terminal))
		exit(77);
	snprintf(terminal_name, sizeof(terminal_name), "%s", ptsname(terminal));
}

static void *dumps_there(void *arg)
{
	result = dump(terminal_name);
	return arg;
}

/* Once a dump has opened it, and moved it if it does that. */
static int dump_begun(void)
{
	int fd = -1;

	for (int i = 0; fd < 0 || (fd < FD_LIBRARY_MIN && i < 100); i++) {
		usleep(1000);
		fd = fd_of(terminal_name, 0);
	}
	return fd;
}

static void *reader(void *arg)
{
	char text[4096];

	sem_wait(&reads);
	while (read(terminal, text, sizeof(text)) > 0 || errno == EINTR)
		continue;
	return arg;
}

static int begin(pthread_t *t)
{
	pthread_t other;

	open_terminal();
	sem_init(&reads, 0, 0);
	CHECK(!pthread_create(&other, NULL, reader, NULL), "thread");
	CHECK(!pthread_create(t, NULL, dumps_there, NULL), "thread");
	return dump_begun();
}

static void read_on(void)
{
	sem_post(&reads);
}

/* ---- what is to be seen --------------------------------------------------------------------- */

static void names(void)
{
	char name[4][64];
	struct stat st;

	for (unsigned i = 0; i < 4; i++)
		snprintf(name[i], sizeof(name[i]), "jeprof.%d.%u.m.heap", (int)getpid(), i);
	CHECK(symlink("victim", name[0]) == 0 && mkfifo(name[1], 0600) == 0 &&
		      mkdir(name[2], 0700) == 0,
	      "names");
	CHECK(by_stack(0, DEPTH), "no memory");
	CHECK(dump(NULL) == 0, "a dump past them");
	CHECK(access("victim", F_OK) != 0, "no file where the link points to");
	CHECK(stat(name[3], &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0600, "%s",
	      name[3]);
}

static void given(void)
{
	char name[64];
	int ends[2] = { -1, -1 };
	int fd;

	CHECK(mkfifo("fifo", 0600) == 0 && mkdir("folder", 0700) == 0 && pipe(ends) == 0, "files");
	CHECK(dump("fifo") == EFAULT, "without a reader");
	fd = open("fifo", O_RDWR);
	CHECK(dump("fifo") == EFAULT, "with a reader");
	close(fd);
	CHECK(dump("folder") == EFAULT, "a folder");
	snprintf(name, sizeof(name), "/proc/self/fd/%d", ends[1]);
	close(ends[0]);
	CHECK(dump(name) == EFAULT, "a pipe");
	CHECK(dump("/dev/null") == 0 && dump("file") == 0 && dump("file") == 0, "good ones");
}

static void limit(void)
{
	struct rlimit small = { 1500, 1500 };
	for (unsigned i = 0; i < 1000; i++)
		CHECK(by_stack(i, DEPTH), "no memory");
	CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0, "limit");
	CHECK(dump("file") == EFAULT, "a file at its limit");
}

static void numbers(void)
{
	pthread_t t;
	int fd = begin(&t);

	CHECK(fd >= FD_LIBRARY_MIN, "its number is %d", fd);
	CHECK(dump("/dev/null") == EFAULT, "one at a time");
	read_on();
	pthread_join(t, NULL);
	CHECK(result == 0, "dump: %d", result);
}

/* As a program that closes all descriptors, and then opens its own. */
static void closed(void)
{
	pthread_t t;
	int fd = begin(&t);
	int own = open("own", O_RDWR | O_CREAT, 0600);
	struct stat st;

	CHECK(dup2(own, fd) == fd, "dup2");
	read_on();
	pthread_join(t, NULL);
	CHECK(result == EFAULT, "dump: %d", result);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 0, "the program's file was written");
}

static void child(void)
{
	pthread_t t;
	pid_t pid;
	int status;

	begin(&t);
	pid = fork();
	if (pid == 0) {
		close(terminal);
		begin(&t);
		CHECK(dump("/dev/null") == EFAULT, "two at a time");
		read_on();
		pthread_join(t, NULL);
		CHECK(result == 0 && dump("/dev/null") == 0, "one after the other");
		_exit(helper_end());
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "child: %d", status);
	read_on();
	pthread_join(t, NULL);
}

static void ends(bool slow)
{
	pthread_t t;

	if (slow)
		atexit(read_on);
	begin(&t);
}

static _Atomic bool stop;

static void *works(void *arg)
{
	while (!stop) {
		void *volatile p = malloc(3000);

		free(p);
	}
	return arg;
}

/* Each pair of figures is of some objects with some bytes, or none of both. */
static void whole(void)
{
	unsigned long n[4];
	pthread_t t[3];
	char line[1000];

	for (int i = 0; i < 3; i++)
		CHECK(!pthread_create(&t[i], NULL, works, NULL), "thread %d", i);
	for (int i = 0; i < 300; i++) {
		FILE *f;

		CHECK(dump("file") == 0, "dump");
		f = fopen("file", "r");
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "  t*: %lu: %lu [%lu: %lu]", n, n + 1, n + 2, n + 3) == 4)
				CHECK(!n[0] == !n[1] && !n[2] == !n[3], "%s", line);
		fclose(f);
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} runs[] = {
		{ "names", names },     { "given", given },   { "limit", limit },
		{ "numbers", numbers }, { "closed", closed }, { "child", child },
		{ "whole", whole },
	};

	alarm(test_limit(60));
	if (argc != 2)
		return 2;
	if (strcmp(argv[1], "stuck") == 0 || strcmp(argv[1], "slow") == 0)
		ends(argv[1][1] == 'l');
	for (unsigned i = 0; i < sizeof(runs) / sizeof(runs[0]); i++)
		if (strcmp(argv[1], runs[i].name) == 0)
			runs[i].run();
	return helper_end();
}
