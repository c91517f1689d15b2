/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * makes open FILE: opens an object whose constructor waits for a thread that allocates
 * makes threads: makes C11 and POSIX threads in turn
 * makes ours: has a thread, and says which other one there is
 *
 * TLS_BYTES, where it is built with it: static TLS of the program.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

#ifdef TLS_BYTES
static __thread volatile char tls[TLS_BYTES];
#endif

static void *works(void *arg)
{
	for (;;) {
		free(malloc(100));
		usleep(10000);
	}
	return arg;
}

static int works_c11(void *arg)
{
	works(arg);
	return 0;
}

static void *allocates(void *arg)
{
	free(malloc(200000));
	return arg;
}

/* Whether a thread with the name is there within 10 s. */
static int named(const char *want)
{
	for (int i = 0; i < 1000; i++) {
		DIR *dir = opendir("/proc/self/task");
		struct dirent *e;
		int found = 0;

		while (dir && (e = readdir(dir)) != NULL) {
			char path[300];
			char name[32] = "";
			FILE *f;

			snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
			f = fopen(path, "r");
			if (!f)
				continue;
			if (fgets(name, sizeof(name), f))
				name[strcspn(name, "\n")] = '\0';
			fclose(f);
			found |= strcmp(name, want) == 0;
		}
		if (dir)
			closedir(dir);
		if (found)
			return 1;
		usleep(10000);
	}
	return 0;
}

static int threads(void)
{
	thrd_t c11;
	int good = 1;

	good &= thrd_create(&c11, works_c11, NULL) == thrd_success;
	for (int i = 0; i < 50 && good; i++) {
		pthread_t t;

		good = pthread_create(&t, NULL, allocates, NULL) == 0 && pthread_join(t, NULL) == 0;
		usleep(1000);
	}
	printf("%s\n", good ? "made all" : "failed");
	return 0;
}

static int ours(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, works, NULL) != 0)
		return 1;
	printf("%s\n", named("sluice") ? "sluice" : "none");
	usleep(300000); /* it works */
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
#ifdef TLS_BYTES
	tls[sizeof(tls) - 1] = 1;
#endif
	if (strcmp(what, "open") == 0 && argc == 3) {
		printf("%s\n", dlopen(argv[2], RTLD_NOW) ? "opened" : dlerror());
		return 0;
	}
	if (strcmp(what, "threads") == 0)
		return threads();
	if (strcmp(what, "ours") == 0)
		return ours();
	fprintf(stderr, "makes: use open FILE, threads or ours\n");
	return 2;
}
