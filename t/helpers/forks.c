/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork, vfork, posix_spawn and exec while other threads are in the allocator,
 * or in stdio with a FILE locked.
 *
 * usage: forks CASE [ARGS...]
 *
 * A child that hangs is ended by its own alarm and counted as failed.
 */
#include "lib/check.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

enum { CHILD_SECONDS = 100, TEST_SECONDS = 250, THREADS = 4 };

static _Atomic int over;

static void start(pthread_t *t, void *(*f)(void *), void *arg)
{
	int e = pthread_create(t, NULL, f, arg);

	if (e != 0) {
		helper_say("pthread_create: %s", strerror(e));
		_exit(98);
	}
}

/* Waits for a child; says how it ended. Returns true if it exited with `want`. */
static int ended(pid_t pid, int want, const char *what, int number)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == want)
		return 1;
	helper_say("%s %d: %s %d", what, number,
		   WIFSIGNALED(status) ? "killed by signal" : "exited with",
		   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return 0;
}

/* ---- what each child does -------------------------------------------------------------------- */

enum { PARENT_BLOCKS = 200 };
static unsigned char *parent_block[PARENT_BLOCKS];
static size_t parent_size[PARENT_BLOCKS];

static void parent_blocks(void)
{
	uint64_t seed = 5;

	for (size_t i = 0; i < PARENT_BLOCKS; i++) {
		uint64_t r = helper_random(&seed);
		parent_size[i] = i % 20 == 0 ? r % 1000000 + 16 : r % 3000 + 16;
		parent_block[i] = malloc(parent_size[i]);
		if (parent_block[i] == NULL)
			abort();
		helper_fill(parent_block[i], parent_size[i], i);
	}
}

static void *child_thread(void *arg)
{
	void *p[100];

	for (size_t i = 0; i < 100; i++) {
		p[i] = malloc(i * 300 + 1);
		if (p[i] == NULL)
			abort();
		memset(p[i], 1, i * 300 + 1);
	}
	for (int i = 0; i < 100; i++)
		free(p[i]);
	/* a block of the parent, freed by a thread of the child */
	free(arg);
	return NULL;
}

/* Returns 0 if the child could do everything, else the number of the step that failed. */
static int child_work(int with_thread)
{
	alarm(test_limit(CHILD_SECONDS));
	for (size_t i = 0; i < PARENT_BLOCKS; i++) {
		size_t n = parent_size[i];

		if (helper_verify(parent_block[i], n, i) != n)
			return 3;
		if (i % 3 == 0) {
			parent_block[i] = realloc(parent_block[i], n + 1000);
			if (parent_block[i] == NULL || helper_verify(parent_block[i], n, i) != n)
				return 4;
		}
		void *p = malloc(n);
		if (p == NULL)
			return 5;
		memset(p, 0xAB, n);
		if (i != 7)
			free(parent_block[i]);
		free(p);
	}
	if (with_thread) {
		pthread_t t;
		if (pthread_create(&t, NULL, child_thread, parent_block[7]) != 0)
			return 6;
		pthread_join(t, NULL);
	}
	return 0;
}

static void *churn(void *arg)
{
	uint64_t seed = (uint64_t)(intptr_t)arg;
	void *p[64] = { NULL };

	while (!over) {
		uint64_t r = helper_random(&seed);
		size_t i = r % 64, n = (r >> 8) % (r >> 60 == 0 ? 200000 : 2000) + 1;

		free(p[i]);
		p[i] = r >> 59 & 1 ? malloc(n) : calloc(1, n);
		if (p[i] == NULL)
			abort();
		memset(p[i], 7, n);
	}
	for (int i = 0; i < 64; i++)
		free(p[i]);
	return NULL;
}

/* ---- threads allocate while one forks -------------------------------------------------------- */

static int forks_wanted = 300;

static void *fork_loop(void *arg)
{
	int good = 0;

	for (int i = 0; i < forks_wanted; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			int r = child_work(i % 2);
			if (i % 5 == 0)
				exit(r);
			_exit(r);
		}
		if (pid < 0)
			break;
		good += ended(pid, 0, "child", i);
		free(malloc(100));
	}
	CHECK(good == forks_wanted, "%d of %d children did their work", good, forks_wanted);
	for (size_t i = 0; i < PARENT_BLOCKS; i++)
		CHECK(helper_verify(parent_block[i], parent_size[i], i) == parent_size[i],
		      "block %zu of the parent changed", i);
	return arg;
}

static int case_storm(int argc, char **argv)
{
	pthread_t t[THREADS], forker;

	(void)argc;
	parent_blocks();
	for (intptr_t i = 0; i < THREADS; i++)
		start(&t[i], churn, (void *)(i + 1));
	if (strcmp(argv[1], "thread") == 0) {
		forks_wanted = 60;
		start(&forker, fork_loop, NULL);
		pthread_join(forker, NULL);
	} else {
		fork_loop(NULL);
	}
	over = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return helper_end();
}

/* A child forks a child, and so on; each allocates and frees what its parents left. */
static int case_generations(int argc, char **argv)
{
	pthread_t t[2];

	(void)argc;
	(void)argv;
	parent_blocks();
	for (intptr_t i = 0; i < 2; i++)
		start(&t[i], churn, (void *)(i + 1));
	for (size_t depth = 0; depth < 20; depth++) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(test_limit(TEST_SECONDS));
			for (size_t i = depth * 8; i < depth * 8 + 8; i++) {
				if (helper_verify(parent_block[i], parent_size[i], i) !=
				    parent_size[i])
					_exit(3);
				free(parent_block[i]);
			}
			pthread_t x;
			start(&x, child_thread, malloc(5000));
			pthread_join(x, NULL);
			continue;
		}
		int good = ended(pid, 0, "generation", (int)depth + 1);
		if (depth != 0)
			_exit(good ? 0 : 4);
		over = 1;
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
		CHECK(good, "one of 20 generations failed");
		return helper_end();
	}
	_exit(0);
}

/* ---- fork while others are in stdio ---------------------------------------------------------- */

static FILE *line_reader, *line_writer;
static _Atomic unsigned long lines_read, flushes;

/* Holds the lock of a FILE nearly all the time; getline reallocates its buffer under that lock. */
static void *reads_lines(void *arg)
{
	bool last = false;

	/* To the last line: the writer may be inside write(2) when all is over. A reader that
	 * waited for the end of the file would hold its stream's lock, fflush(NULL) the list's
	 * while it waits for the reader's, and the writer's fclose could not have the list's. */
	while (!last) {
		char *line = NULL;
		size_t size = 0;

		if (getline(&line, &size, line_reader) < 0)
			break;
		last = strcmp(line, "end\n") == 0;
		lines_read++;
		free(line);
	}
	return arg;
}

static void *writes_lines(void *arg)
{
	uint64_t seed = 3;
	static char text[9000];

	memset(text, 'x', sizeof text);
	while (!over) {
		size_t n = helper_random(&seed) % 8000;
		if (fwrite(text, 1, n, line_writer) != n || fputc('\n', line_writer) == EOF)
			break;
		fflush(line_writer);
	}
	fputs("end\n", line_writer);
	fflush(line_writer); /* fclose waits for the list of streams first */
	fclose(line_writer);
	return arg;
}

/* A stream whose writer allocates: fflush(NULL) calls it with the list of all streams locked. */
static ssize_t cookie_write(void *cookie, const char *buf, size_t n)
{
	uint64_t *seed = cookie;

	for (int i = 0; i < 20; i++) {
		size_t size = helper_random(seed) % 50000 + n;
		char *copy = malloc(size);
		if (copy == NULL)
			return 0;
		memcpy(copy, buf, n);
		free(copy);
	}
	return (ssize_t)n;
}

static void *writes_cookie(void *arg)
{
	uint64_t seed = 17;
	FILE *f = fopencookie(&seed, "w", (cookie_io_functions_t){ .write = cookie_write });

	if (f == NULL)
		abort();
	while (!over)
		fprintf(f, "a line for the cookie %lu\n", flushes);
	fclose(f);
	return arg;
}

static void *flushes_all(void *arg)
{
	while (!over) {
		fflush(NULL);
		flushes++;
	}
	return arg;
}

/* Takes the lock of the list of streams for each one opened and closed. */
static void *opens_and_closes(void *arg)
{
	while (!over) {
		char *text = NULL;
		size_t size = 0;
		FILE *f = open_memstream(&text, &size);

		if (f == NULL)
			abort();
		for (int i = 0; i < 200; i++)
			fprintf(f, "line %d\n", i);
		fclose(f);
		free(text);
		f = fopen("/dev/null", "we");
		if (f == NULL)
			abort();
		fputs("text", f);
		fclose(f);
	}
	return arg;
}

static void stdio_child(int i)
{
	int r = child_work(i % 2);

	/* the child may use stdio on streams of its own */
	FILE *f = fopen("/dev/null", "we");
	if (f == NULL)
		_exit(7);
	fprintf(f, "child %d\n", i);
	fclose(f);
	_exit(r);
}

/* A thread sleeps in read(2) inside getline, with the lock of its FILE held. */
static int case_locked_file(int argc, char **argv)
{
	int fd[2], good = 0;
	pthread_t t[3];

	(void)argc;
	(void)argv;
	alarm(test_limit(TEST_SECONDS));
	if (pipe(fd) != 0)
		return 2;
	line_reader = fdopen(fd[0], "r");
	line_writer = fdopen(fd[1], "w");
	parent_blocks();
	start(&t[0], reads_lines, NULL);
	start(&t[1], churn, (void *)1);
	start(&t[2], opens_and_closes, NULL);
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (pid == 0)
			stdio_child(i);
		good += ended(pid, 0, "child", i);
		if (i % 10 == 0) {
			fprintf(line_writer, "a line of %0*d\n", i * 50 + 1, 0);
			fflush(line_writer);
		}
	}
	CHECK(good == 100, "%d of 100 children did their work", good);
	over = 1;
	fclose(line_writer);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	CHECK(lines_read == 10, "%lu lines were read", lines_read);
	return helper_end();
}

/* fflush(NULL) and a busy getline at once: list lock, FILE lock and allocator in every order. */
static int case_flush_all(int argc, char **argv)
{
	int fd[2], good = 0, n = 0;
	pthread_t t[5];

	(void)argc;
	(void)argv;
	alarm(test_limit(TEST_SECONDS));
	if (pipe(fd) != 0)
		return 2;
	line_reader = fdopen(fd[0], "r");
	line_writer = fdopen(fd[1], "w");
	parent_blocks();
	start(&t[n++], reads_lines, NULL);
	start(&t[n++], writes_lines, NULL);
	start(&t[n++], writes_cookie, NULL);
	start(&t[n++], flushes_all, NULL);
	start(&t[n++], opens_and_closes, NULL);
	for (int i = 0; i < 150; i++) {
		pid_t pid = fork();

		if (pid == 0)
			stdio_child(i);
		good += ended(pid, 0, "child", i);
	}
	CHECK(good == 150, "%d of 150 children did their work", good);
	over = 1;
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	CHECK(lines_read > 0 && flushes > 0, "%lu lines, %lu flushes", lines_read, flushes);
	return helper_end();
}

/* ---- vfork, posix_spawn, system, popen ------------------------------------------------------- */

/* The child runs in this stack frame, so nothing in it may be changed by the parent meanwhile. */
__attribute__((noinline)) static pid_t vfork_exec(const char *path, char *const *command)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execve(path, command, environ);
		_exit(9);
	}
	return pid;
}

static int case_spawn(int argc, char **argv)
{
	pthread_t t[THREADS];
	char one[] = "/bin/sh", two[] = "-c", three[] = "exit 7";
	char *command[] = { one, two, three, NULL };
	int spawned = 0, vforked = 0, systems = 0, popened = 0;
	enum { N = 30 };

	(void)argc;
	(void)argv;
	for (intptr_t i = 0; i < THREADS; i++)
		start(&t[i], churn, (void *)(i + 1));
	for (int i = 0; i < N; i++) {
		pid_t pid;
		char text[64] = "";

		if (posix_spawn(&pid, command[0], NULL, NULL, command, environ) == 0)
			spawned += ended(pid, 7, "posix_spawn", i);
		pid = vfork_exec(command[0], command);
		if (pid > 0)
			vforked += ended(pid, 7, "vfork", i);
		int status = system("exit 5");
		systems += WIFEXITED(status) && WEXITSTATUS(status) == 5;
		FILE *f = popen("echo from the child", "r");
		if (f != NULL) {
			char *got = fgets(text, sizeof text, f);
			popened += pclose(f) == 0 && got != NULL &&
				   strcmp(text, "from the child\n") == 0;
		}
	}
	CHECK(spawned == N, "%d of %d by posix_spawn", spawned, N);
	CHECK(vforked == N, "%d of %d by vfork", vforked, N);
	CHECK(systems == N, "%d of %d by system", systems, N);
	CHECK(popened == N, "%d of %d by popen", popened, N);
	over = 1;
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	return helper_end();
}

/* A child of vfork may not allocate, but its failing exec and its _exit must not harm the
 * parent. */
static int case_vfork_fails(int argc, char **argv)
{
	char *const command[] = { NULL };

	(void)argc;
	(void)argv;
	parent_blocks();
	for (int i = 0; i < 200; i++) {
		pid_t pid = vfork_exec("/nonexistent/program", command);
		CHECK(ended(pid, 9, "vfork", i), "vfork %d", i);
		free(malloc((size_t)i * 1000));
	}
	for (size_t i = 0; i < PARENT_BLOCKS; i++) {
		CHECK(helper_verify(parent_block[i], parent_size[i], i) == parent_size[i],
		      "block %zu", i);
		free(parent_block[i]);
	}
	return helper_end();
}

/* ---- exec with a full environment, several times over ---------------------------------------- */

static int case_exec(int argc, char **argv)
{
	int left = argc > 2 ? atoi(argv[2]) : 20;
	size_t bytes = 0;
	char number[16];

	if (argc <= 2) {
		for (int i = 0; i < 1000; i++) {
			char name[32], value[101];

			snprintf(name, sizeof name, "HELPER_VARIABLE_%d", i);
			memset(value, 'a' + i % 26, 100);
			value[100] = 0;
			setenv(name, value, 1);
		}
	}
	for (char **e = environ; *e != NULL; e++)
		if (strncmp(*e, "HELPER_VARIABLE_", 16) == 0)
			bytes += strlen(*e);
	CHECK(bytes > 110000, "only %zu bytes of environment arrived", bytes);
	if (left == 0 || helper_failed != 0)
		return helper_end();
	snprintf(number, sizeof number, "%d", left - 1);
	execl(argv[0], argv[0], "exec", number, (char *)NULL);
	return 3;
}

static const struct {
	const char *name;
	int (*run)(int, char **);
} cases[] = {
	{ "storm", case_storm },
	{ "thread", case_storm },
	{ "generations", case_generations },
	{ "locked-file", case_locked_file },
	{ "flush-all", case_flush_all },
	{ "spawn", case_spawn },
	{ "vfork-fails", case_vfork_fails },
	{ "exec", case_exec },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof cases / sizeof *cases; i++)
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run(argc, argv);
	fprintf(stderr, "usage: forks CASE [ARGS...]\n");
	return 2;
}
