/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether the layers of the statistics add up to what the kernel says of the library's mappings
 * (/proc/self/smaps), within 1 % or 256 KiB, at rest. The program has no private anonymous mapping
 * of its own: its threads have shared stacks.
 *
 *   small | large | huge | mixed    blocks are filled; half of them is freed at random; then more
 *   threads                         the same by threads, which then sleep; some end
 *   holes                           a few small blocks of many stay, of threads that ended
 *   fork                            in a child of a process with blocks
 *   work                            no check: blocks come and go until the program is killed
 *   calloc                          blocks that are not touched: only what the kernel says agrees
 */
#include "lib/barrier.h"
#include "lib/check.h"
#include "lib/layers.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define BLOCKS 200000u
#define THREADS 12u
#define STACK ((size_t)256 << 10)

static void **blocks;
static char *text; /* of smaps */
static uint64_t seed = 12345;

static void *shared(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(96);
	return p;
}

static long stat_kib(const char *name)
{
	int (*stat)(const char *, uint64_t *);
	void *sym = dlsym(RTLD_DEFAULT, "sluice_stat");
	uint64_t n = 0;

	memcpy(&stat, &sym, sizeof stat);
	if (!stat || stat(name, &n) != 0)
		_exit(97);
	return (long)(n >> 10);
}

static void drain(void)
{
	int (*fn)(unsigned, uint64_t, void *);
	void *sym = dlsym(RTLD_DEFAULT, "sluice_drain");

	memcpy(&fn, &sym, sizeof fn);
	if (!fn || fn(0, 0, NULL) != 0)
		_exit(98);
}

static void agrees(const char *when, bool touched)
{
	char line[400] = "";
	long sum = stat_kib("layer_sum");
	long resident = stat_kib("resident_bytes");
	long untouched = stat_kib("untouched_bytes");
	long kernel = smaps_kib(text);

	layers_print(line, sizeof line, stat_kib);
	dprintf(2, "%s: sum %ld, resident %ld, untouched %ld, smaps %ld:%s\n", when, sum, resident,
		untouched, kernel, line);
	CHECK(near(resident, kernel), "%s: resident %ld, smaps %ld", when, resident, kernel);
	if (touched)
		CHECK(near(sum, kernel), "%s: sum %ld, smaps %ld:%s", when, sum, kernel, line);
	CHECK(near(sum - untouched, kernel), "%s: sum %ld - untouched %ld, smaps %ld", when, sum,
	      untouched, kernel);
}

/* ---- blocks ------------------------------------------------------------------------------- */

static size_t size_of(const char *kind, uint64_t *state)
{
	uint64_t r = helper_random(state);
	uint64_t s = helper_random(state);

	if (strcmp(kind, "small") == 0)
		return 1 + r % (16u << s % 8);
	if (strcmp(kind, "large") == 0)
		return 33000 + r % 1000000;
	if (strcmp(kind, "huge") == 0)
		return ((size_t)33 << 20) + r % ((size_t)20 << 20);
	return r % 100 ? 1 + r % (16u << s % 12) : 33000 + s % 2000000;
}

static void fill(void **list, unsigned from, unsigned to, const char *kind, uint64_t *state)
{
	for (unsigned i = from; i < to; i++) {
		list[i] = malloc(size_of(kind, state));
		if (!list[i])
			_exit(95);
		memset(list[i], 1, malloc_usable_size(list[i]));
	}
}

static void free_some(void **list, unsigned n, unsigned percent, uint64_t *state)
{
	for (unsigned i = 0; i < n; i++) {
		if (helper_random(state) % 100 >= percent)
			continue;
		free(list[i]);
		list[i] = NULL;
	}
}

static void turns(const char *kind, unsigned n)
{
	fill(blocks, 0, n / 2, kind, &seed);
	agrees("filled", true);
	free_some(blocks, n / 2, 50, &seed);
	agrees("half freed", true);
	fill(blocks, n / 2, n, kind, &seed);
	agrees("filled again", true);
	drain();
	agrees("drained", true);
	free_some(blocks, n, 90, &seed);
	agrees("most freed", true);
	drain();
	agrees("drained at the end", true);
}

/* ---- threads ------------------------------------------------------------------------------ */

static pthread_barrier_t rest;
static bool ends[THREADS];
static unsigned percent;

static void *worker(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;
	unsigned each = BLOCKS / THREADS / (percent == 50 ? 10 : 1);
	uint64_t state = me + 1;

	fill(blocks + me * each, 0, each, percent == 50 ? "mixed" : "small", &state);
	free_some(blocks + me * each, each, percent, &state);
	if (ends[me])
		return NULL;
	pthread_barrier_wait(&rest);
	pthread_barrier_wait(&rest);
	return NULL;
}

static void with_threads(unsigned ending, unsigned freed)
{
	pthread_t t[THREADS];
	pthread_attr_t attr;

	percent = freed;
	pthread_barrier_init(&rest, NULL, THREADS - ending + 1);
	for (unsigned i = 0; i < THREADS; i++) {
		ends[i] = i < ending;
		pthread_attr_init(&attr);
		pthread_attr_setstack(&attr, shared(STACK), STACK);
		if (pthread_create(&t[i], &attr, worker, (void *)(uintptr_t)i) != 0)
			_exit(94);
		if (ends[i])
			pthread_join(t[i], NULL);
	}
	pthread_barrier_wait(&rest);
	agrees("threads sleep", false); /* what refills carved and nobody took is untouched */
	drain();
	agrees("drained", true);
	pthread_barrier_wait(&rest);
	for (unsigned i = ending; i < THREADS; i++)
		pthread_join(t[i], NULL);
	agrees("threads ended", true);
	drain();
	agrees("drained at the end", true);
}

static void in_child(void)
{
	int status = 0;
	pid_t pid;

	fill(blocks, 0, BLOCKS / 20, "mixed", &seed);
	free_some(blocks, BLOCKS / 20, 30, &seed);
	pid = fork();
	if (pid == 0) {
		agrees("a child", true);
		fill(blocks, BLOCKS / 20, BLOCKS / 10, "mixed", &seed);
		free_some(blocks, BLOCKS / 10, 70, &seed);
		agrees("a child that went on", true);
		drain();
		agrees("a child that drained", true);
		_exit(helper_failed != 0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the child: %d", status);
	agrees("the parent", true);
}

static void untouched(void)
{
	for (unsigned i = 0; i < 100; i++)
		blocks[i] = calloc(1, 1000000);
	agrees("not touched", false);
	CHECK(stat_kib("untouched_bytes") > 90000, "untouched: %ld", stat_kib("untouched_bytes"));
	for (unsigned i = 0; i < 100; i++)
		memset(blocks[i], 1, malloc_usable_size(blocks[i]));
	agrees("touched", true);
	CHECK(stat_kib("untouched_bytes") < 2000, "untouched: %ld", stat_kib("untouched_bytes"));
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "mixed";

	text = shared(SMAPS);
	blocks = shared(BLOCKS * sizeof *blocks);
	if (strcmp(kind, "threads") == 0)
		with_threads(THREADS / 3, 50);
	else if (strcmp(kind, "holes") == 0)
		with_threads(THREADS / 2, 97);
	else if (strcmp(kind, "fork") == 0)
		in_child();
	else if (strcmp(kind, "work") == 0)
		for (;;) {
			fill(blocks, 0, BLOCKS / 10, "small", &seed);
			free_some(blocks, BLOCKS / 10, 100, &seed);
		}
	else if (strcmp(kind, "calloc") == 0)
		untouched();
	else
		turns(kind, strcmp(kind, "huge") == 0    ? 16
			    : strcmp(kind, "large") == 0 ? 600
			    : strcmp(kind, "mixed") == 0 ? BLOCKS / 10
							 : BLOCKS);
	return helper_end();
}
