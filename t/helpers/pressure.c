/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pressure back MIB SECONDS
 *     A program with two threads uses MIB of memory, frees it and prints "ready". It prints "back"
 *     when its RSS has fallen by three quarters of MIB, or "kept" after SECONDS. It does not call
 *     malloc meanwhile.
 * pressure stay MIB SECONDS
 *     The same; then it stays until it is killed.
 * pressure eat MIB MS USAGE MOST
 *     Touches MIB of memory that is not malloc's, 1 MiB each MS. Before each MiB it waits, at most
 *     a minute, until the file USAGE has at most MOST bytes. Prints "eaten".
 * pressure workers N MIB SIZE
 *     N processes of one thread use and free MIB of blocks of SIZE bytes, one after the other, and
 *     sleep. Prints how many are alive then.
 * pressure files
 *     Prints the descriptors that are not the program's own, closes them, and opens files of its
 *     own with their numbers. Prints "good" if these files are still open a while later and
 *     waiting for them used no CPU time.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/statm.h"

#define MIB ((size_t)1 << 20)
#define FILES 16

static void sleep_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

static long rss_mib(void)
{
	return (statm_rss_kib() << 10) / (long)MIB;
}

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int hold(long mib, long seconds)
{
	long peak;
	void **p = malloc((size_t)mib * sizeof(void *));

	if (!p)
		return 1;
	for (long i = 0; i < mib; i++) {
		p[i] = malloc(MIB - 4096);
		if (!p[i])
			return 1;
		memset(p[i], 'p', MIB - 4096);
	}
	peak = rss_mib();
	for (long i = 0; i < mib; i++)
		free(p[i]);
	printf("ready\n");
	fflush(stdout);
	for (long ms = 0; ms < seconds * 1000; ms += 20) {
		if (peak - rss_mib() >= mib * 3 / 4) {
			printf("back after %ld ms\n", ms);
			return 0;
		}
		sleep_ms(20);
	}
	printf("kept\n");
	return 0;
}

static char ours[4096]; /* descriptors that the program began with */

/* The other descriptors, except that of the directory itself. */
static int others(int *fd)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
		int one = atoi(e->d_name);

		if (e->d_name[0] != '.' && one != dirfd(d) && one < (int)sizeof(ours) &&
		    !ours[one] && n < FILES)
			fd[n++] = one;
	}
	if (d)
		closedir(d);
	return n;
}

static long cpu_ms(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

static int files(void)
{
	long before;
	int fd[FILES];
	int ends[2];
	int n = others(fd);
	void *keep;

	/* The library's descriptors are open from the start, and have higher numbers. */
	while (n--)
		ours[fd[n]] = fd[n] < 100;
	n = 0;

	for (int ms = 0; ms < 20000 && n == 0; ms += 50) {
		keep = malloc(4096);
		free(keep);
		n = others(fd);
		sleep_ms(50);
	}
	for (int i = 0; i < n; i++)
		printf("descriptor %d, %s on exec\n", fd[i],
		       fcntl(fd[i], F_GETFD) & FD_CLOEXEC ? "closed" : "kept");
	/* A pipe whose other end is closed is always ready. */
	if (pipe(ends) != 0)
		return 1;
	close(ends[1]);
	for (int i = 0; i < n; i++)
		dup2(ends[0], fd[i]);
	before = cpu_ms();
	for (int i = 0; i < 40; i++) {
		keep = malloc(4096);
		free(keep);
		sleep_ms(50);
	}
	for (int i = 0; i < n; i++)
		if (fcntl(fd[i], F_GETFD) < 0)
			n = 0;
	if (n && cpu_ms() - before < 200)
		printf("good\n");
	return 0;
}

static long long bytes_in(const char *path)
{
	char text[64];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? atoll(text) : -1;
}

static int eat(long mib, long ms, const char *usage, long long most)
{
	long patience = 60000;
	char *p = mmap(NULL, (size_t)mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		return 1;
	for (long i = 0; i < mib; i++) {
		for (; bytes_in(usage) > most && patience > 0; patience -= 20)
			sleep_ms(20);
		memset(p + (size_t)i * MIB, 'e', MIB);
		sleep_ms(ms);
	}
	printf("eaten\n");
	return 0;
}

static int work(size_t n, size_t size)
{
	char **p = malloc(n * sizeof(*p));

	for (size_t i = 0; p && i < n; i++) {
		p[i] = malloc(size);
		if (p[i])
			memset(p[i], 'w', size);
	}
	for (size_t i = 0; p && i < n; i++)
		free(p[i]);
	free(p);
	return p ? 'w' : 0;
}

static int workers(int n, size_t bytes, size_t size)
{
	pid_t child[64];
	int alive = 0;

	for (int i = 0; i < n && i < 64; i++) {
		int ends[2];
		char done = 0;

		if (pipe(ends) != 0)
			return 1;
		child[i] = fork();
		if (child[i] == 0) {
			done = (char)work(bytes / size, size);
			if (write(ends[1], &done, 1) == 1)
				sleeper(NULL);
			_exit(1);
		}
		close(ends[1]);
		if (read(ends[0], &done, 1) != 1)
			fprintf(stderr, "worker %d has no answer\n", i);
		close(ends[0]);
	}
	for (int i = 0; i < n && i < 64; i++) {
		alive += waitpid(child[i], NULL, WNOHANG) == 0;
		kill(child[i], SIGKILL);
	}
	printf("alive %d\n", alive);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc == 5 && strcmp(argv[1], "workers") == 0)
		return workers(atoi(argv[2]), (size_t)atol(argv[3]) * MIB, (size_t)atol(argv[4]));
	if (pthread_create(&t, NULL, sleeper, NULL) != 0)
		return 1;
	if (argc == 4 && strcmp(argv[1], "back") == 0)
		return hold(atol(argv[2]), atol(argv[3]));
	if (argc == 4 && strcmp(argv[1], "stay") == 0) {
		hold(atol(argv[2]), atol(argv[3]));
		fflush(stdout);
		sleeper(NULL);
	}
	if (argc == 6 && strcmp(argv[1], "eat") == 0)
		return eat(atol(argv[2]), atol(argv[3]), argv[4], atoll(argv[5]));
	if (argc == 2 && strcmp(argv[1], "files") == 0)
		return files();
	fprintf(stderr, "usage: pressure back|stay MIB SECONDS|eat MIB MS USAGE MOST|"
			"workers N MIB SIZE|files\n");
	return 2;
}
