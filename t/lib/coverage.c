/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The counters of a build with --enable-coverage.
 *
 * gcov's own runtime keeps its counters in the process and writes them in a destructor, with malloc
 * and stdio. Under a malloc that does not work: a process that is killed, or ends by _exit or exec,
 * would write nothing, and any other would call the malloc under test in ways of its own. So the
 * counters lie on pages of their own (t/lib/coverage.ld). When the library starts, it replaces
 * these pages by those of a file that all processes share; a child inherits them. Nothing has to be
 * done at the end. A process that cannot open the file counts for itself alone.
 *
 * With SLUICE_COVERAGE_DUMP in the environment the program gives the file's counters to gcov's
 * runtime, which writes them as .gcda files, and ends: tools/coverage.
 *
 * Uses system calls only, once, before any thread exists.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef COVERAGE_DIR
#define COVERAGE_DIR "coverage"
#endif

struct gcov_info;
extern const struct gcov_info *const coverage_info_begin[]
	__attribute__((weak, visibility("hidden")));
extern const struct gcov_info *const coverage_info_end[]
	__attribute__((weak, visibility("hidden")));
extern uint64_t coverage_begin[] __attribute__((weak, visibility("hidden")));
extern uint64_t coverage_end[] __attribute__((weak, visibility("hidden")));

/* All that this needs of gcov's runtime. */
extern void __gcov_init(const struct gcov_info *info);
extern void __gcov_dump(void);

static size_t infos(void)
{
	return ((uintptr_t)coverage_info_end - (uintptr_t)coverage_info_begin) / sizeof(void *);
}

/* Tells builds apart, because another build's counters lie elsewhere: the third word of each
 * description is the compilation's stamp. */
static uint32_t layout(void)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < infos(); i++) {
		uint32_t stamp;

		memcpy(&stamp, (const char *)coverage_info_begin[i] + 2 * sizeof(void *),
		       sizeof(stamp));
		sum = (sum << 5 | sum >> 27) ^ stamp;
	}
	return sum;
}

static void add(char *name, size_t room, size_t *len, const char *text)
{
	while (*text && *len + 1 < room)
		name[(*len)++] = *text++;
	name[*len] = 0;
}

/* The name of the counter file of the library or program that this is linked into. */
static void file_name(char *name, size_t room)
{
	static const char hex[] = "0123456789abcdef";
	char stamp[10] = "-";
	const char *base = "program";
	uint32_t sum = layout();
	size_t len = 0;
	Dl_info at;

	if (dladdr((void *)coverage_begin, &at) != 0 && at.dli_fname) {
		base = strrchr(at.dli_fname, '/');
		base = base ? base + 1 : at.dli_fname;
	}
	for (int i = 0; i < 8; i++)
		stamp[1 + i] = hex[sum >> (28 - 4 * i) & 15];
	add(name, room, &len, COVERAGE_DIR "/");
	add(name, room, &len, base);
	add(name, room, &len, stamp);
}

static void dump(char **envp)
{
	for (; envp && *envp; envp++) {
		if (strncmp(*envp, "SLUICE_COVERAGE_DUMP=", 21) != 0)
			continue;
		for (size_t i = 0; i < infos(); i++)
			__gcov_init(coverage_info_begin[i]);
		__gcov_dump();
		_exit(0);
	}
}

__attribute__((constructor(101))) static void coverage_begins(int argc, char **argv, char **envp)
{
	size_t bytes = (size_t)((uintptr_t)coverage_end - (uintptr_t)coverage_begin);
	char name[4096];
	uint64_t *shared;
	int fd;

	(void)argc;
	(void)argv;
	if (bytes == 0)
		return;
	file_name(name, sizeof(name));
	fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return;
	syscall(SYS_fchmod, fd, 0666);
	if (syscall(SYS_ftruncate, fd, bytes) == 0) {
		shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (shared != MAP_FAILED) {
			/* The counts so far; no other thread counts in this process yet. */
			for (size_t i = 0; i < bytes / sizeof(*shared); i++) {
				if (coverage_begin[i])
					__atomic_fetch_add(&shared[i], coverage_begin[i],
							   __ATOMIC_RELAXED);
			}
			munmap(shared, bytes);
			(void)mmap(coverage_begin, bytes, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, fd, 0);
		}
	}
	syscall(SYS_close, fd);
	dump(envp);
}

/* Programs that link the core as an archive pull this file in by this name: -Wl,-u. */
extern const char coverage_counts[];
const char coverage_counts[] __attribute__((visibility("hidden"))) = COVERAGE_DIR;
