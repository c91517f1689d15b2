/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backtrace.c - see backtrace.h. Primitive; used by log, uses libc and, where configured, libunwind.
 *
 * Who loads a library calls malloc and takes locks of the loader; the thread that is being stopped may be
 * in the middle of either. So a copy of the process does it, which has the same stack at the same place:
 *
 * (A) The copy is made by a bare clone: no fork handler runs, and the program sees neither a SIGCHLD nor
 *     a child in its own waits. Where clone is refused there is no backtrace.
 * (B) No handler of the program runs in the copy: signals are blocked, and a fault ends it.
 * (C) malloc needs no lock of ours in the copy (backtrace_begins). A lock of the loader that another
 *     thread had is held there for good: the copy is killed COPY_MS later.
 * (D) The copy ends with the thread that waits for it at the latest.
 *
 * Bound: COPY_MS, and as much again as it takes the kernel to end the copy, END_MS at the most.
 * Takes no lock of ours; may run in a signal handler and in a fork child.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/backtrace.h"

#include <stddef.h>

void (*backtrace_begins)(void);

#ifdef HAVE_LIBUNWIND
#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <errno.h>
#include <libunwind.h>
#include <link.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <unwind.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/ourfd.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "types.h"

#define LINE_BYTES 512
#define FRAMES_MAX 32
#define COPY_MS 3000u
#define END_MS (BACKTRACE_MS - COPY_MS)
#define LOOK_NS 500000 /* between two looks at whether the copy has ended */

/* The name that a function of libunwind has for the linker. */
#define STRING(name) #name
#define SYMBOL(name) STRING(name)

static bool is_copy;

struct unwinder {
#if !LIBUNWIND_GETCONTEXT_INLINE
	__typeof__(unw_tdep_getcontext) *getcontext;
#endif
	__typeof__(unw_init_local) *init_local;
	__typeof__(unw_step) *step;
	__typeof__(unw_get_reg) *get_reg;
};

#if LIBUNWIND_GETCONTEXT_INLINE
#define GETCONTEXT(u, context) unw_getcontext(context)
#define FIND_GETCONTEXT(lib, u) true
#else
#define GETCONTEXT(u, context) (u)->getcontext(context)
#define FIND_GETCONTEXT(lib, u) find(lib, SYMBOL(unw_tdep_getcontext), &(u)->getcontext)
#endif

/* fn: of a pointer to a function. */
static bool find(void *lib, const char *name, void *fn)
{
	void *symbol = dlsym(lib, name);

	memcpy(fn, &symbol, sizeof(symbol));
	return symbol != NULL;
}

static bool load(struct unwinder *u)
{
	void *lib = sys_dlopen(LIBUNWIND_SONAME, RTLD_NOW | RTLD_LOCAL);

	return lib && FIND_GETCONTEXT(lib, u) &&
	       find(lib, SYMBOL(unw_init_local), &u->init_local) &&
	       find(lib, SYMBOL(unw_step), &u->step) && find(lib, SYMBOL(unw_get_reg), &u->get_reg);
}

static void write_frame(unsigned n, unw_word_t ip)
{
	char line[LINE_BYTES];
	size_t len;
	ssize_t w;
	Dl_info info;

	if (dladdr((void *)(uintptr_t)ip, &info) && info.dli_fname)
		len = log_format(line, sizeof(line), "sluice:   #%u %p %s(%s+0x%lx)\n", n,
				 (void *)(uintptr_t)ip, info.dli_fname,
				 info.dli_sname ? info.dli_sname : "",
				 (unsigned long)(ip - (uintptr_t)(info.dli_sname
									  ? info.dli_saddr
									  : info.dli_fbase)));
	else
		len = log_format(line, sizeof(line), "sluice:   #%u %p\n", n,
				 (void *)(uintptr_t)ip);
	w = sys_write(STDERR_FILENO, line, len);
	(void)w;
}

/* Inline, for the frames start above its caller's. */
static always_inline void walk(const struct unwinder *u)
{
	unw_context_t context;
	unw_cursor_t cursor;
	unw_word_t ip;

	if (GETCONTEXT(u, &context) || u->init_local(&cursor, &context))
		return;
	for (unsigned n = 0; n < FRAMES_MAX && u->step(&cursor) > 0; n++) {
		if (u->get_reg(&cursor, UNW_REG_IP, &ip) || !ip)
			return;
		write_frame(n, ip);
	}
}

/* ---- a program that is linked statically ---------------------------------------------------- */

/*
 * What libunwind would be loaded for is what a C++ program has anyway, for its exceptions; a C program need not. No
 * table of symbols is loaded: the addresses are as addr2line(1) takes them.
 */
_Unwind_Reason_Code _Unwind_Backtrace(_Unwind_Trace_Fn fn, void *arg) __attribute__((weak));
uintptr_t _Unwind_GetIP(struct _Unwind_Context *context) __attribute__((weak));
extern const ElfW(Ehdr) __ehdr_start __attribute__((weak, visibility("hidden")));

static _Unwind_Reason_Code static_frame(struct _Unwind_Context *context, void *arg)
{
	unsigned *n = arg;
	uintptr_t ip = _Unwind_GetIP(context);
	uintptr_t base = __ehdr_start.e_type == ET_DYN ? (uintptr_t)&__ehdr_start : 0;
	char line[LINE_BYTES];
	size_t len;
	ssize_t w;

	if (!ip || *n >= FRAMES_MAX)
		return _URC_END_OF_STACK;
	len = log_format(line, sizeof(line), "sluice:   #%u %p in %s\n", (*n)++,
			 (void *)(ip - base), program_invocation_name);
	w = sys_write(STDERR_FILENO, line, len);
	(void)w;
	return _URC_NO_REASON;
}

static bool is_static(void)
{
	return dlsym(RTLD_DEFAULT, "dlopen") == NULL;
}

static void static_walk(void)
{
	unsigned n = 0;

	if (_Unwind_Backtrace && _Unwind_GetIP)
		_Unwind_Backtrace(static_frame, &n);
	if (!n)
		log_warn(
			"no backtrace: the program is linked statically, and has nothing that unwinds its stack");
}

/*
 * 0 in the copy. Not traced: a debugger would take a copy without SIGCHLD for a thread. SIGSYS stays
 * open, for it is how a sandbox refuses clone, and blocked it would end the program.
 */
static pid_t copy_process(void)
{
	sigset_t most;
	sigset_t old;
	pid_t pid;

	sigfillset(&most);
	sigdelset(&most, SIGSYS);
	pthread_sigmask(SIG_BLOCK, &most, &old);
	pid = (pid_t)syscall(SYS_clone, CLONE_UNTRACED, 0, 0, 0, 0);
	if (pid)
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

/* As much as the hard limit allows. (What type a resource has depends on the C library.) */
#define RAISE_LIMIT(resource)                                                                      \
	do {                                                                                       \
		struct rlimit limit;                                                               \
                                                                                                   \
		if (getrlimit(resource, &limit) == 0) {                                            \
			limit.rlim_cur = limit.rlim_max;                                           \
			setrlimit(resource, &limit);                                               \
		}                                                                                  \
	} while (0)

/* The copy leaves no core behind. */
static void prepare_copy(void)
{
	sigset_t all;

	is_copy = true;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_DUMPABLE, 0);
	RAISE_LIMIT(RLIMIT_AS);
	RAISE_LIMIT(RLIMIT_NOFILE);
	if (backtrace_begins)
		backtrace_begins();
}

void backtrace_end_copy(void)
{
	while (is_copy)
		syscall(SYS_exit_group, 0);
}

/* False: it runs still. */
static bool wait_for(pid_t pid, unsigned ms)
{
	const struct timespec pause = { 0, LOOK_NS };
	uint64_t start = clock_ns();

	for (;;) {
		long r = syscall(SYS_wait4, pid, NULL, __WALL | WNOHANG, NULL);

		if (r == pid || (r < 0 && errno != EINTR))
			return true;
		if (clock_ns() - start > (uint64_t)ms * 1000000u)
			return false;
		syscall(SYS_nanosleep, &pause, NULL);
	}
}

noinline void backtrace_write(void)
{
	pid_t pid;

	if (sandbox_any())
		return;
	pid = copy_process();
	if (pid == 0) {
		struct unwinder u;

		prepare_copy();
		/* The program may be in a chroot whose owner has a libunwind of his own. */
		if (is_static())
			static_walk();
		else if (ourfd_same_root() && load(&u))
			walk(&u);
		backtrace_end_copy();
	}
	if (pid > 0 && !wait_for(pid, COPY_MS)) {
		kill(pid, SIGKILL);
		wait_for(pid, END_MS);
	}
}
#else
void backtrace_write(void)
{
}

void backtrace_end_copy(void)
{
}
#endif
