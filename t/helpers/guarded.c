/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects with pages of their own: what each misuse of one leads to, and what must work.
 *
 * usage: guarded CASE [MODULE]
 *
 * A misuse prints the address of the object first ("object 0x..."). "survived" means that nothing
 * stopped it. The other cases end with check.h's line.
 */
#include <dlfcn.h>
#include <execinfo.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "../lib/check.h"
#include "../lib/fork_loading.h"

#define PAGE 4096u

static char *volatile object;
static char *volatile nowhere;
static volatile int sink;
static const char *module;

/* With names for backtraces. */
char *allocated_here(size_t n, bool at_end);
void freed_here(void *p);

/* Returns an object at the end or at the start of its page, as the misuse needs. */
__attribute__((noinline)) char *allocated_here(size_t n, bool at_end)
{
	for (int i = 0; i < 100; i++) {
		char *p = malloc(n);

		if (((uintptr_t)p % PAGE + n == PAGE) == at_end) {
			printf("object %#lx\n", (unsigned long)(uintptr_t)p);
			fflush(stdout);
			return p;
		}
	}
	exit(3);
}

__attribute__((noinline)) void freed_here(void *p)
{
	free(p);
	sink = 1; /* not a tail call */
}

static void use_after_free(void)
{
	object = allocated_here(48, false);
	freed_here(object);
	object[8] = 1;
}

static void read_after_free(void)
{
	object = allocated_here(48, true);
	freed_here(object);
	sink = (unsigned char)object[0];
}

static void overflow(void)
{
	object = allocated_here(64, true);
	object[64] = 1;
}

static void underflow(void)
{
	object = allocated_here(64, false);
	sink = (unsigned char)object[-1];
}

static void freed_twice(void)
{
	object = allocated_here(64, false);
	freed_here(object);
	free(object);
}

static void freed_middle(void)
{
	object = allocated_here(64, false);
	free(object + 16);
}

static void near_overflow(void)
{
	object = allocated_here(40, false);
	object[40] = 0;
	freed_here(object);
}

static void size_after_free(void)
{
	object = allocated_here(64, false);
	freed_here(object);
	sink = (int)malloc_usable_size(object);
}

static void realloc_after_free(void)
{
	object = allocated_here(64, false);
	freed_here(object);
	object = realloc(object, 100);
}

static void *free_there(void *p)
{
	freed_here(p);
	return NULL;
}

static void thread_after_free(void)
{
	pthread_t t;

	object = allocated_here(64, false);
	pthread_create(&t, NULL, free_there, object);
	pthread_join(t, NULL);
	object[1] = 1;
}

/* A child uses an object that the parent freed. */
static void child_after_free(void)
{
	pid_t pid;
	int status = 0;

	object = allocated_here(64, false);
	freed_here(object);
	pid = fork();
	if (pid == 0)
		object[1] = 1;
	waitpid(pid, &status, 0);
	if (WIFSIGNALED(status))
		raise(WTERMSIG(status));
}

static void *uses_it(void *arg)
{
	object[1] = 1;
	return arg;
}

/* Two threads use it at once: there is one report, which ends before the program does. */
static void both_after_free(void)
{
	pthread_t t[2];

	object = allocated_here(64, false);
	freed_here(object);
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, uses_it, NULL);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
}

/* ---- the program's own handlers ------------------------------------------------------------- */

static char alternate[65536];

static void own_handler(int sig)
{
	char here;
	uintptr_t off = (uintptr_t)&here - (uintptr_t)alternate;

	printf("handler %d%s\n", sig, off < sizeof(alternate) ? " alt" : "");
	fflush(stdout);
	_exit(7);
}

static void handler_later(void)
{
	struct sigaction ours = { .sa_handler = own_handler };

	sigaction(SIGSEGV, &ours, NULL);
	use_after_free();
}

static struct sigaction first;

static void chains(int sig, siginfo_t *info, void *context)
{
	printf("chains\n");
	fflush(stdout);
	first.sa_sigaction(sig, info, context);
}

static void handler_chains(void)
{
	struct sigaction ours = { .sa_sigaction = chains, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &ours, &first);
	use_after_free();
}

static void on_alternate(void)
{
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate) };

	sigaltstack(&st, NULL);
	use_after_free();
}

static void other_fault(void)
{
	printf("object 0x0\n");
	fflush(stdout);
	*nowhere = 1;
}

static void sent(void)
{
	printf("object 0x0\n");
	fflush(stdout);
	kill(getpid(), SIGSEGV);
}

/* ---- what must work ------------------------------------------------------------------------- */

static void all_zero(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK(!p[i], "byte %zu of %zu", i, n);
}

static void family_of(size_t n)
{
	char *p = malloc(n);
	char *q = calloc(1, n);
	char *a = aligned_alloc(64, n);
	char *b = NULL;

	CHECK(!posix_memalign((void **)&b, 256, n), "posix_memalign");
	memset(p, 'p', malloc_usable_size(p));
	all_zero(q, malloc_usable_size(q));
	memset(q, 'q', malloc_usable_size(q));
	CHECK((uintptr_t)a % 64 == 0 && (uintptr_t)b % 256 == 0, "%p %p", (void *)a, (void *)b);
	CHECK((uintptr_t)p % 16 == 0 && (uintptr_t)q % 16 == 0, "%p %p", (void *)p, (void *)q);
	memset(a, 'a', malloc_usable_size(a));
	memset(b, 'b', malloc_usable_size(b));
	CHECK(malloc_usable_size(p) >= n, "%zu", n);
	p = realloc(p, n + 100);
	for (size_t i = 0; i < n; i++)
		CHECK(p[i] == 'p', "byte %zu of %zu", i, n);
	p = realloc(p, n / 2 + 1);
	CHECK(p[0] == 'p' || !n, "after shrinking %zu", n);
	free(p);
	free(q);
	free(a);
	free(b);
}

static void family(void)
{
	for (int round = 0; round < 3; round++) {
		for (size_t n = 0; n < 6000; n += n < 100 ? 1 : 97)
			family_of(n);
	}
}

static void *works(void *arg)
{
	void *mine[64] = { 0 };

	for (unsigned i = 0; i < 5000; i++) {
		unsigned at = i * 7 % 64;

		free(mine[at]);
		mine[at] = malloc(i % 3000);
		if (mine[at] && i % 3000)
			memset(mine[at], 1, i % 3000);
	}
	for (unsigned i = 0; i < 64; i++)
		free(mine[i]);
	return arg;
}

static void threads(void)
{
	pthread_t t[8];

	for (int i = 0; i < 8; i++)
		CHECK(!pthread_create(&t[i], NULL, works, NULL), "thread %d", i);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
}

static void loops(void)
{
	fork_loading(module, 20, works, NULL);
}

/* ---- a JIT ---------------------------------------------------------------------------------- */

/* Tables for unwinding, of no code that ever runs. */
static const char code[16];
static struct {
	struct __attribute__((packed)) {
		uint32_t bytes, id;
		uint8_t version, augmentation, code_align, data_align, pc_register, nop[3];
	} common;
	struct __attribute__((packed)) {
		uint32_t bytes, common;
		uint64_t pc, range;
	} frame;
	uint32_t end;
} tables = {
	.common = { .bytes = 12,
		    .version = 1,
		    .code_align = 1,
		    .data_align = 0x78,
		    .pc_register = 16 },
	.frame = { .bytes = 20, .common = 20, .range = sizeof(code) },
};

/*
 * The first unwinding after tables were registered sorts them: libgcc_s calls malloc with its mutex
 * held. An exception unwinds as backtrace() does.
 */
static void jit(void)
{
	void *libgcc = dlopen("libgcc_s.so.1", RTLD_NOW);
	void *found[2] = { NULL, NULL };
	void (*change[2])(void *);
	void *pc[8];

	CHECK(libgcc, "dlopen: %s", dlerror());
	found[0] = dlsym(libgcc, "__register_frame");
	found[1] = dlsym(libgcc, "__deregister_frame");
	CHECK(found[0] && found[1], "libgcc_s");
	memcpy(change, found, sizeof(change));
	tables.frame.pc = (uintptr_t)code;
	for (int i = 0; i < 20; i++) {
		change[0](&tables);
		CHECK(backtrace(pc, 8) > 0, "no frames");
		change[1](&tables);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
	bool works;
} cases[] = {
	{ "use-after-free", use_after_free, false },
	{ "read-after-free", read_after_free, false },
	{ "overflow", overflow, false },
	{ "underflow", underflow, false },
	{ "freed-twice", freed_twice, false },
	{ "freed-middle", freed_middle, false },
	{ "near-overflow", near_overflow, false },
	{ "size-after-free", size_after_free, false },
	{ "realloc-after-free", realloc_after_free, false },
	{ "thread-after-free", thread_after_free, false },
	{ "child-after-free", child_after_free, false },
	{ "both-after-free", both_after_free, false },
	{ "handler-later", handler_later, false },
	{ "handler-chains", handler_chains, false },
	{ "on-alternate", on_alternate, false },
	{ "other-fault", other_fault, false },
	{ "sent", sent, false },
	{ "family", family, true },
	{ "threads", threads, true },
	{ "loops", loops, true },
	{ "jit", jit, true },
};

int main(int argc, char **argv)
{
	module = argc > 2 ? argv[2] : NULL;
	for (size_t i = 0; argc > 1 && i < sizeof(cases) / sizeof(*cases); i++) {
		if (strcmp(argv[1], cases[i].name) != 0)
			continue;
		cases[i].run();
		if (cases[i].works)
			return helper_end();
		printf("survived\n");
		return 0;
	}
	return 2;
}
