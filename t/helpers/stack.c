/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How much stack each function that the library exports needs. usage: stack CALL
 *
 * CALL is an exported name. A thread with PTHREAD_STACK_MIN of stack calls it twice, the first time
 * as its first call. Another thread, whose stack was filled with a pattern before, shows how deep
 * the call goes: "CALL BYTES". This includes the part of the thread's own start that a program
 * cannot tell apart.
 *
 * "limit BYTES" is the stack of a thread with PTHREAD_STACK_MIN.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <sluice/sluice.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { PAINTED = 256 << 10, BLOCKS = 600 };

static const size_t too_much = (size_t)1 << 50;
static void *symbol;
static void *blocks[BLOCKS];
static FILE *null;

/* Memory of all kinds, part of it freed by other threads. */
static void some_use(void)
{
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc((size_t)i * (size_t)i + 1);
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
}

#define AS(type) ((type)symbol)

static void nothing(void *p)
{
	free(p);
}

/* One function for each kind of arguments. */
static void of_size(void)
{
	void *(*fn)(size_t) = AS(void *(*)(size_t));

	for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1)
		nothing(fn(n));
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = fn(5000);
	for (int i = 0; i < BLOCKS; i++)
		nothing(blocks[i]);
}

static void of_size_that_fails(void)
{
	of_size();
	nothing(AS(void *(*)(size_t))(too_much));
}

static void of_two_sizes(void)
{
	void *(*fn)(size_t, size_t) = AS(void *(*)(size_t, size_t));

	for (size_t n = 16; n < (size_t)64 << 20; n = n * 4)
		nothing(fn(16, n));
	for (size_t n = 16; n < (size_t)1 << 20; n = n * 4)
		nothing(fn(n, 16));
	nothing(fn(16, too_much));
}

static void of_new_aligned(void)
{
	void *(*fn)(size_t, size_t) = AS(void *(*)(size_t, size_t));

	for (size_t n = 16; n < (size_t)1 << 20; n = n * 4)
		nothing(fn(n, n));
}

static void of_new_nothrow(void)
{
	void *(*fn)(size_t, const void *) = AS(void *(*)(size_t, const void *));

	nothing(fn(1000, ""));
	nothing(fn(too_much, ""));
}

static void of_new_aligned_nothrow(void)
{
	void *(*fn)(size_t, size_t, const void *) = AS(void *(*)(size_t, size_t, const void *));

	nothing(fn(1000, 64, ""));
	nothing(fn(too_much, 64, ""));
}

static void of_out(void)
{
	void *p = NULL;

	if (AS(int (*)(void **, size_t, size_t))(&p, 64, 100000) == 0)
		nothing(p);
}

static void of_block(void)
{
	for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1)
		AS(void (*)(void *, size_t, size_t))(malloc(n), n, 16);
	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(5000);
	for (int i = 0; i < BLOCKS; i++)
		AS(void (*)(void *, size_t, size_t))(blocks[i], 5000, 5000);
}

/* Its last argument is no alignment but flags. */
static void of_sdallocx(void)
{
	for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1)
		AS(void (*)(void *, size_t, int))(malloc(n), n, 0);
}

static void of_realloc(void)
{
	void *p = NULL;

	for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1)
		p = AS(void *(*)(void *, size_t))(p, n);
	for (size_t n = (size_t)64 << 20; n; n = n / 3)
		p = AS(void *(*)(void *, size_t))(p, n);
	nothing(p);
}

static void of_reallocarray(void)
{
	nothing(AS(void *(*)(void *, size_t, size_t))(malloc(10), 1000, 1000));
}

static void of_query(void)
{
	void *p = malloc(100);

	AS(size_t(*)(void *))(p);
	nothing(p);
}

static void of_number(void)
{
	AS(size_t(*)(size_t))(1000);
}

static void of_none(void)
{
	AS(void (*)(void))();
}

static void of_pcps(void)
{
	((void (*)(void))dlsym(RTLD_DEFAULT, "sluice_pcp_disable"))();
	((void (*)(void))dlsym(RTLD_DEFAULT, "sluice_pcp_enable"))();
}

static void of_mallinfo(void)
{
	AS(struct mallinfo(*)(void))();
}

static void of_mallinfo2(void)
{
	AS(struct mallinfo2(*)(void))();
}

static void of_info(void)
{
	CHECK(AS(int (*)(int, FILE *))(0, null) == 0, "malloc_info");
}

static void of_trim(void)
{
	some_use();
	AS(int (*)(size_t))(0);
}

static void of_mallopt(void)
{
	AS(int (*)(int, int))(M_ARENA_MAX, 1);
}

static void of_mlockall(void)
{
	AS(int (*)(int))(0);
}

/* There is no such mount. */
static void of_mount(void)
{
	(void)mount("none", "/nowhere", "none", MS_REMOUNT, NULL);
}

static void of_umount(void)
{
	(void)umount("/nowhere");
}

static void of_umount2(void)
{
	(void)umount2("/nowhere", 0);
}

static void of_prctl(void)
{
	AS(int (*)(int, unsigned long, unsigned long, unsigned long, unsigned long))
	(PR_GET_DUMPABLE, 0, 0, 0, 0);
}

static void of_syscall(void)
{
	AS(long (*)(long, ...))(SYS_getpid);
}

static void of_setns(void)
{
	AS(int (*)(int, int))(-1, 0);
}

static void of_capset(void)
{
	AS(int (*)(void *, const void *))(NULL, NULL);
}

static void of_close_range(void)
{
	AS(int (*)(unsigned, unsigned, int))(900, 900, 0);
}

static void of_unshare(void)
{
	AS(int (*)(int))(0);
}

static void of_fork(void)
{
	pid_t pid = AS(pid_t(*)(void))();

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void *ends(void *arg)
{
	return arg;
}

static void of_create(void)
{
	pthread_t t;

	if (AS(int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
		       void *))(&t, NULL, ends, NULL) == 0)
		pthread_join(t, NULL);
}

static void of_drain(void)
{
	struct sluice_drain_report r;

	some_use();
	CHECK(AS(int (*)(unsigned, struct sluice_drain_report *))(31, &r) == 0, "sluice_drain");
}

static void of_drain_threads(void)
{
	size_t n = 0;

	some_use();
	AS(int (*)(unsigned, struct sluice_drain_report *, struct sluice_thread_drain *, size_t *))
	(0, NULL, NULL, &n);
}

static void of_stat(void)
{
	uint64_t v;

	CHECK(AS(int (*)(const char *, uint64_t *))("slab_bytes", &v) == 0, "sluice_stat");
}

static void of_class_stats(void)
{
	AS(size_t(*)(struct sluice_class *, size_t))(NULL, 0);
}

/* The x-functions of jemalloc. */
static void of_mallocx(void)
{
	for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1)
		nothing(AS(void *(*)(size_t, int))(n, 0x40 | 12));
	AS(size_t(*)(size_t, int))(too_much, 0);
}

static void of_nallocx(void)
{
	AS(size_t(*)(size_t, int))(1000, 12);
}

static void of_rallocx(void)
{
	void *p = malloc(1);

	for (size_t n = 1; n < (size_t)64 << 20; n = n * 3 + 1)
		p = AS(void *(*)(void *, size_t, int))(p, n, 0x40 | 12);
	nothing(p);
}

static void of_xallocx(void)
{
	void *p = malloc(100000);

	AS(size_t(*)(void *, size_t, size_t, int))(p, 300000, 100000, 0x40);
	AS(size_t(*)(void *, size_t, size_t, int))(p, 100000, 0, 0);
	nothing(p);
}

static void of_sallocx(void)
{
	void *p = malloc(1000);

	AS(size_t(*)(const void *, int))(p, 0);
	nothing(p);
}

/* Of what is loaded: what glibc needs to load something is not ours. */
static void of_dlopen(void)
{
	void *(*fn)(const char *, int) = AS(void *(*)(const char *, int));

	CHECK(fn(NULL, RTLD_LAZY) != NULL, "no handle of the program");
	CHECK(fn("libc.so.6", RTLD_LAZY | RTLD_NOLOAD) != NULL, "no handle of libc");
}

static void of_mallctl(void)
{
	AS(int (*)(const char *, void *, size_t *, void *, size_t))
	("arena.0.purge", NULL, NULL, NULL, 0);
	AS(int (*)(const char *, void *, size_t *, void *, size_t))
	("epoch", NULL, NULL, &(uint64_t){ 1 }, 8);
}

static void of_mib(void)
{
	size_t mib[8];
	size_t len = 8;

	AS(int (*)(const char *, size_t *, size_t *))("arena.0.purge", mib, &len);
}

static void of_mallctlbymib(void)
{
	size_t mib[8];
	size_t len = 8;

	((int (*)(const char *, size_t *,
		  size_t *))dlsym(RTLD_DEFAULT, "mallctlnametomib"))("thread.tcache.flush", mib,
								     &len);
	AS(int (*)(const size_t *, size_t, void *, size_t *, void *, size_t))
	(mib, len, NULL, NULL, NULL, 0);
}

static void ignore(void *arg, const char *text)
{
	(void)arg;
	(void)text;
}

static void of_stats_print(void)
{
	AS(void (*)(void (*)(void *, const char *), void *, const char *))(ignore, NULL, "J");
	AS(void (*)(void (*)(void *, const char *), void *, const char *))(ignore, NULL, NULL);
}

/* The functions for pages, each with its counterpart, by name. */
static void of_pages(void)
{
	static void *some[64];
	struct sluice_page_list list = { 0 };
	void *p;

#define FN(type, name) ((type)dlsym(RTLD_DEFAULT, #name))
	p = FN(void *(*)(unsigned), sluice_page_alloc)(3);
	FN(void (*)(void *, unsigned), sluice_page_free)(p, 3);
	size_t n = FN(size_t(*)(unsigned, size_t, void **), sluice_page_alloc_bulk)(0, 64, some);
	FN(void (*)(unsigned, size_t, void *const *), sluice_page_free_bulk)(0, n, some);
	FN(size_t(*)(unsigned, size_t, struct sluice_page_list *), sluice_page_alloc_bulk_list)
	(0, 64, &list);
	p = FN(void *(*)(struct sluice_page_list *), sluice_page_list_pop)(&list);
	if (p != NULL)
		FN(void (*)(void *, unsigned), sluice_page_free)(p, 0);
	FN(void (*)(unsigned, struct sluice_page_list *), sluice_page_free_bulk_list)(0, &list);
#undef FN
}

static const struct {
	const char *name;
	void (*run)(void);
} calls[] = {
	{ "malloc", of_size_that_fails },
	{ "__libc_malloc", of_size_that_fails },
	{ "valloc", of_size_that_fails },
	{ "__libc_valloc", of_size_that_fails },
	{ "pvalloc", of_size_that_fails },
	{ "__libc_pvalloc", of_size_that_fails },
	{ "_Znwm", of_size },
	{ "_Znam", of_size },
	{ "calloc", of_two_sizes },
	{ "__libc_calloc", of_two_sizes },
	{ "memalign", of_two_sizes },
	{ "__libc_memalign", of_two_sizes },
	{ "aligned_alloc", of_two_sizes },
	{ "_ZnwmSt11align_val_t", of_new_aligned },
	{ "_ZnamSt11align_val_t", of_new_aligned },
	{ "_ZnwmRKSt9nothrow_t", of_new_nothrow },
	{ "_ZnamRKSt9nothrow_t", of_new_nothrow },
	{ "_ZnwmSt11align_val_tRKSt9nothrow_t", of_new_aligned_nothrow },
	{ "_ZnamSt11align_val_tRKSt9nothrow_t", of_new_aligned_nothrow },
	{ "posix_memalign", of_out },
	{ "__posix_memalign", of_out },
	{ "free", of_block },
	{ "__libc_free", of_block },
	{ "cfree", of_block },
	{ "free_sized", of_block },
	{ "free_aligned_sized", of_block },
	{ "_ZdlPv", of_block },
	{ "_ZdaPv", of_block },
	{ "_ZdlPvm", of_block },
	{ "_ZdaPvm", of_block },
	{ "_ZdlPvRKSt9nothrow_t", of_block },
	{ "_ZdaPvRKSt9nothrow_t", of_block },
	{ "_ZdlPvSt11align_val_t", of_block },
	{ "_ZdaPvSt11align_val_t", of_block },
	{ "_ZdlPvmSt11align_val_t", of_block },
	{ "_ZdaPvmSt11align_val_t", of_block },
	{ "_ZdlPvSt11align_val_tRKSt9nothrow_t", of_block },
	{ "_ZdaPvSt11align_val_tRKSt9nothrow_t", of_block },
	{ "realloc", of_realloc },
	{ "__libc_realloc", of_realloc },
	{ "reallocarray", of_reallocarray },
	{ "mallocx", of_mallocx },
	{ "rallocx", of_rallocx },
	{ "xallocx", of_xallocx },
	{ "sallocx", of_sallocx },
	{ "nallocx", of_nallocx },
	{ "dallocx", of_block },
	{ "sdallocx", of_sdallocx },
	{ "dlopen", of_dlopen },
	{ "mallctl", of_mallctl },
	{ "mallctlnametomib", of_mib },
	{ "mallctlbymib", of_mallctlbymib },
	{ "malloc_stats_print", of_stats_print },
	{ "malloc_usable_size", of_query },
	{ "malloc_size", of_query },
	{ "malloc_good_size", of_number },
	{ "mallinfo", of_mallinfo },
	{ "__libc_mallinfo", of_mallinfo },
	{ "mallinfo2", of_mallinfo2 },
	{ "malloc_info", of_info },
	{ "malloc_stats", of_none },
	{ "malloc_trim", of_trim },
	{ "mallopt", of_mallopt },
	{ "__libc_mallopt", of_mallopt },
	{ "mlockall", of_mlockall },
	{ "mount", of_mount },
	{ "pthread_create", of_create },
	{ "fork", of_fork },
	{ "prctl", of_prctl },
	{ "capset", of_capset },
	{ "close_range", of_close_range },
	{ "setns", of_setns },
	{ "syscall", of_syscall },
	{ "umount", of_umount },
	{ "umount2", of_umount2 },
	{ "unshare", of_unshare },
	{ "sluice_version", of_none },
	{ "sluice_drain", of_drain },
	{ "sluice_drain_threads", of_drain_threads },
	{ "sluice_pcp_disable", of_pcps },
	{ "sluice_pcp_enable", of_pcps },
	{ "sluice_page_size", of_none },
	{ "sluice_page_order_max", of_none },
	{ "sluice_page_alloc", of_pages },
	{ "sluice_page_free", of_pages },
	{ "sluice_page_alloc_bulk", of_pages },
	{ "sluice_page_free_bulk", of_pages },
	{ "sluice_page_alloc_bulk_list", of_pages },
	{ "sluice_page_free_bulk_list", of_pages },
	{ "sluice_page_list_pop", of_pages },
	{ "sluice_stat", of_stat },
	{ "sluice_class_stats", of_class_stats },
};

static void *twice(void *arg)
{
	void (*run)(void) = *(void (**)(void))arg;

	run();
	run();
	return NULL;
}

static void *room(void *arg)
{
	pthread_attr_t attr;
	void *low;
	size_t size;

	if (pthread_getattr_np(pthread_self(), &attr) == 0 &&
	    pthread_attr_getstack(&attr, &low, &size) == 0)
		*(size_t *)arg = (size_t)((char *)__builtin_frame_address(0) - (char *)low);
	return NULL;
}

/* Returns the bytes from the top of the stack that were written, 0 if the thread cannot be made. */
static size_t painted(void *(*start)(void *), void *arg)
{
	unsigned char *low = mmap(NULL, PAINTED, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t t;
	size_t at = 0;

	if (low == MAP_FAILED)
		return 0;
	memset(low, 0xA5, PAINTED);
	pthread_attr_init(&attr);
	if (pthread_attr_setstack(&attr, low, PAINTED) != 0 ||
	    pthread_create(&t, &attr, start, arg) != 0)
		return 0;
	pthread_join(t, NULL);
	while (at < PAINTED && low[at] == 0xA5)
		at++;
	return PAINTED - at;
}

static void small(void *(*start)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	CHECK(pthread_attr_setstacksize(&attr, (size_t)PTHREAD_STACK_MIN) == 0,
	      "PTHREAD_STACK_MIN");
	CHECK(pthread_create(&t, &attr, start, arg) == 0, "no thread");
	pthread_join(t, NULL);
}

int main(int argc, char **argv)
{
	const char *base;
	size_t left = 0;

	null = fopen("/dev/null", "we");
	if (argc == 2 && strcmp(argv[1], "limit") == 0) {
		small(room, &left);
		helper_say("limit %zu", left);
		return 0;
	}
	/* A name of a jemalloc with a prefix. */
	base = argc == 2 && strncmp(argv[1], "je_", 3) == 0 ? argv[1] + 3 : argv[argc - 1];
	for (size_t i = 0; argc == 2 && i < sizeof calls / sizeof *calls; i++) {
		void (*run)(void) = calls[i].run;

		if (strcmp(calls[i].name, base) != 0)
			continue;
		symbol = dlsym(RTLD_DEFAULT, argv[1]);
		CHECK(symbol != NULL, "%s is missing", argv[1]);
		some_use();
		small(twice, (void *)&run);
		helper_say("%s %zu", argv[1], painted(twice, (void *)&run) - painted(ends, NULL));
		return helper_failed != 0;
	}
	fprintf(stderr, "usage: stack CALL|limit\n");
	return 2;
}
