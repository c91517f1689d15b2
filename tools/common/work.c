/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work.c - the main program of the workloads: runs one of them under the allocator that LD_PRELOAD
 * names. sluice-bench(1), sluice-latency(1) and sluice-pressure(1) start such a process for each
 * run; by hand:
 *
 *	sluice-bench-work                      lists the workloads and their parameters
 *	sluice-bench-work NAME [PARAM=N ...]   runs one
 *
 * Prints one line of JSON: ops, ns (wall time of the steady part), cpu_ns (CPU time of all threads
 * in that part), ns_per_op, cpu_ns_per_op, peak_kib (VmHWM), end_kib (VmRSS at the end), malloc
 * (the file whose malloc the program is bound to), mapped (whether that file is mapped executable),
 * and what the workload adds.
 *
 * Exit status: 0; 1 if memory, threads or files are missing, 2 for bad arguments.
 */
#include "work.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define EXTRAS 16
#define THREADS_MAX 65536u

static struct workload current;
static uint64_t begin_ns, begin_cpu, wall_ns, cpu_ns, total_ops;
static struct {
	const char *name;
	double value;
} extras[EXTRAS];
static unsigned extra_count;
static const char *json_name, *json_text;

static void complain(const char *format, va_list ap) __attribute__((format(printf, 1, 0)));

static void complain(const char *format, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), format, ap);
	dprintf(STDERR_FILENO, "%s: %s\n", bench_program, text);
}

void bench_usage(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	complain(format, ap);
	va_end(ap);
	_exit(2);
}

void bench_fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	complain(format, ap);
	va_end(ap);
	_exit(1);
}

uint64_t param(const char *name)
{
	for (unsigned i = 0; i < PARAMS && current.params[i].name; i++) {
		if (strcmp(current.params[i].name, name) == 0)
			return current.params[i].value;
	}
	bench_fail("%s: asks for a parameter %s that its table lacks", current.name, name);
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void bench_begin(void)
{
	begin_cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	begin_ns = clock_ns(CLOCK_MONOTONIC);
}

void bench_end(uint64_t ops)
{
	wall_ns = clock_ns(CLOCK_MONOTONIC) - begin_ns;
	cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - begin_cpu;
	total_ops = ops;
}

void bench_measured(uint64_t ops, uint64_t wall, uint64_t cpu)
{
	wall_ns = wall;
	cpu_ns = cpu;
	total_ops = ops;
}

void bench_extra(const char *name, double value)
{
	if (extra_count == EXTRAS)
		bench_fail("%s: more than %d numbers of its own", current.name, EXTRAS);
	extras[extra_count].name = name;
	extras[extra_count++].value = value;
}

void bench_json(const char *name, const char *json)
{
	json_name = name;
	json_text = json;
}

void *bench_map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		bench_fail("mmap of %zu bytes: %s", bytes, strerror(errno));
	return p;
}

const uint32_t *sizes_make(uint32_t min, uint32_t max, uint64_t seed)
{
	uint32_t *sizes = bench_map(SIZES * sizeof(*sizes));

	if (min == 0 || max < min)
		bench_usage("%s: min=%u max=%u: valid are min from 1, max from min", current.name,
			    min, max);
	for (unsigned i = 0; i < SIZES; i++) {
		/* Each doubling from min to max, and each size within one, is equally likely. */
		uint32_t top = max / min ? 32 - (uint32_t)__builtin_clz(max / min) : 1;
		uint32_t low = min << rng_below(&seed, top);
		uint64_t high = (uint64_t)low * 2 - 1 < max ? (uint64_t)low * 2 - 1 : max;

		sizes[i] = low + rng_below(&seed, (uint32_t)(high - low + 1));
	}
	return sizes;
}

/* ---- threads ------------------------------------------------------------------------------ */

static struct {
	pthread_barrier_t ready;
	pthread_barrier_t go;
	pthread_barrier_t done;
	void (*work)(unsigned index, void *arg);
	void *arg;
} team;

void team_ready(void)
{
	pthread_barrier_wait(&team.ready);
	pthread_barrier_wait(&team.go);
}

void team_done(void)
{
	pthread_barrier_wait(&team.done);
}

static void *team_thread(void *arg)
{
	team.work((unsigned)(uintptr_t)arg, team.arg);
	return NULL;
}

void team_run(unsigned n, void (*work)(unsigned index, void *arg), void *arg, uint64_t ops)
{
	pthread_t *threads;

	if (n > THREADS_MAX)
		bench_usage("threads=%u: has to be at most %u", n, THREADS_MAX);
	threads = bench_map(n * sizeof(*threads));
	team.work = work;
	team.arg = arg;
	pthread_barrier_init(&team.ready, NULL, n + 1);
	pthread_barrier_init(&team.go, NULL, n + 1);
	pthread_barrier_init(&team.done, NULL, n + 1);
	for (unsigned i = 0; i < n; i++) {
		if (pthread_create(&threads[i], NULL, team_thread, (void *)(uintptr_t)i) != 0)
			bench_fail("cannot create thread %u of %u", i + 1, n);
	}
	pthread_barrier_wait(&team.ready);
	bench_begin();
	pthread_barrier_wait(&team.go);
	pthread_barrier_wait(&team.done);
	bench_end(ops);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}

/* ---- the report --------------------------------------------------------------------------- */

/* Reads a whole file of /proc. It uses neither stdio, which would malloc a buffer, nor bench_map,
 * which would add to the peak that is about to be read. */
static char *read_file(const char *path)
{
	size_t cap = (size_t)16 << 20;
	size_t length = 0;
	char *text = mmap(NULL, cap, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0 || text == MAP_FAILED)
		bench_fail("%s: %s", path, strerror(errno));
	while (length + 1 < cap && (n = read(fd, text + length, cap - 1 - length)) > 0)
		length += (size_t)n;
	close(fd);
	return text;
}

static unsigned long status_kib(const char *status, const char *field)
{
	const char *at = strstr(status, field);

	return at ? strtoul(at + strlen(field), NULL, 10) : 0;
}

/* Whether the file has a mapping with execute permission. */
static bool mapped_to_run(const char *file)
{
	char *maps = read_file("/proc/self/maps");
	char *rest = NULL;

	for (char *line = strtok_r(maps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		const char *path = strchr(line, '/');

		if (path && strstr(line, "r-xp") && strcmp(path, file) == 0)
			return true;
	}
	return false;
}

static void report(const char *status)
{
	void *address = dlsym(RTLD_DEFAULT, "malloc");
	Dl_info info = { 0 };
	char real[4096] = "";
	char line[8192];
	double ops = (double)max_u64(total_ops, 1);
	int n;

	if (!address || !dladdr(address, &info) || !realpath(info.dli_fname, real))
		bench_fail("cannot tell which file has malloc");
	n = snprintf(line, sizeof(line),
		     "{\"workload\":\"%s\",\"ops\":%lu,\"ns\":%lu,\"cpu_ns\":%lu,"
		     "\"ns_per_op\":%.4f,\"cpu_ns_per_op\":%.4f,\"peak_kib\":%lu,\"end_kib\":%lu,"
		     "\"malloc\":\"%s\",\"mapped\":%s",
		     current.name, (unsigned long)total_ops, (unsigned long)wall_ns,
		     (unsigned long)cpu_ns, (double)wall_ns / ops, (double)cpu_ns / ops,
		     status_kib(status, "VmHWM:"), status_kib(status, "VmRSS:"), real,
		     mapped_to_run(real) ? "true" : "false");
	for (unsigned i = 0; i < extra_count; i++)
		n += snprintf(line + n, sizeof(line) - (size_t)n, ",\"%s\":%.4f", extras[i].name,
			      extras[i].value);
	dprintf(STDOUT_FILENO, "%s", line);
	if (json_name)
		dprintf(STDOUT_FILENO, ",\"%s\":%s", json_name, json_text);
	dprintf(STDOUT_FILENO, "}\n");
}

/* ---- arguments ---------------------------------------------------------------------------- */

static void list(void)
{
	for (size_t f = 0; bench_families[f]; f++) {
		for (const struct workload *w = bench_families[f]; w->name; w++) {
			dprintf(STDOUT_FILENO, "%-14s %s\n%-14s", w->name, w->text, "");
			for (unsigned i = 0; i < PARAMS && w->params[i].name; i++)
				dprintf(STDOUT_FILENO, " %s=%lu", w->params[i].name,
					(unsigned long)w->params[i].value);
			dprintf(STDOUT_FILENO, "\n");
		}
	}
}

static const struct workload *find(const char *name)
{
	for (size_t f = 0; bench_families[f]; f++) {
		for (const struct workload *w = bench_families[f]; w->name; w++) {
			if (strcmp(w->name, name) == 0)
				return w;
		}
	}
	bench_usage("no workload %s (without arguments: a list)", name);
}

static void set_param(char *arg)
{
	char *equals = strchr(arg, '=');
	char *end = NULL;
	uint64_t value;

	if (!equals || equals == arg)
		bench_usage("%s: not of the form PARAM=N", arg);
	*equals = '\0';
	errno = 0;
	value = strtoull(equals + 1, &end, 10);
	if (errno || end == equals + 1 || *end || equals[1] == '-')
		bench_usage("%s=%s: not a number", arg, equals + 1);
	for (unsigned i = 0; i < PARAMS && current.params[i].name; i++) {
		if (strcmp(current.params[i].name, arg) != 0)
			continue;
		/* A parameter whose default is 0 is a switch or may be 0; the others are divisors.
		 */
		if (value == 0 && current.params[i].value != 0)
			bench_usage("%s=0: has to be above 0", arg);
		current.params[i].value = value;
		return;
	}
	bench_usage("%s: has no parameter %s (without arguments: a list)", current.name, arg);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		list();
		return 0;
	}
	current = *find(argv[1]);
	for (int i = 2; i < argc; i++)
		set_param(argv[i]);
	current.run();
	report(read_file("/proc/self/status"));
	return 0;
}
