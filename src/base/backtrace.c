/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * backtrace.c - see backtrace.h. Primitive; used by check and heap_thread; uses libc, log and,
 * where configured, libunwind.
 *
 * To load a library calls malloc and takes locks of the loader, and the stopped thread may be in
 * the middle of either. Therefore a copy of the process does it. It has the same stack at the same
 * addresses.
 *
 * (A) The copy is made by a raw clone: no fork handler runs, and the program gets no SIGCHLD and
 *     sees no child in its own waits. If clone is refused, there is no backtrace.
 * (B) No handler of the program runs in the copy: signals are blocked, and a fault ends it.
 * (C) malloc takes no lock of ours in the copy (backtrace_begins). A lock of the loader that
 *     another thread holds is never released in the copy, which is then killed after COPY_MS.
 * (D) The copy ends at the latest with the thread that waits for it.
 *
 * Bound: COPY_MS, and at most END_MS for the kernel to end the copy. Takes no lock of ours; may run
 * in a signal handler and in a fork child.
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
#define LOOK_NS 500000 /* between two checks whether the copy has ended */

/* The linker's name of a function of libunwind. */
#define STRING(name) #name
#define SYMBOL(name) STRING(name)

/* As libc has it; program_invocation_name may be a name of the program's own. */
extern char *__progname_full;

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

/* fn: address of a pointer to a function. */
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

/* Inline, because the frames begin above its caller. */
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
 * A C++ program has an unwinder for its exceptions; a C program may have none. The lines show no
 * symbols, because their table is not loaded. The addresses suit addr2line(1).
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
			 (void *)(ip - base), __progname_full);
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
		log_warn("no backtrace: the program is statically linked and has no unwinder");
}

/*
 * Returns 0 in the copy. The copy is not traced: a debugger would take a process without SIGCHLD
 * for a thread. SIGSYS is not blocked: a sandbox may refuse clone by it, and if it were blocked the
 * program would end.
 */
static pid_t copy_process(void)
{
	sigset_t most;
	sigset_t old;
	pid_t pid;

	sigfillset(&most);
	sigdelset(&most, SIGSYS);
	pthread_sigmask(SIG_BLOCK, &most, &old);
	pid = (pid_t)sluice_syscall(SYS_clone, CLONE_UNTRACED, 0, 0, 0, 0);
	if (pid)
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	return pid;
}

/* Raises it to the hard limit. A macro, because the type of a resource depends on the C library. */
#define RAISE_LIMIT(resource)                                                                      \
	do {                                                                                       \
		struct rlimit limit;                                                               \
                                                                                                   \
		if (getrlimit(resource, &limit) == 0) {                                            \
			limit.rlim_cur = limit.rlim_max;                                           \
			setrlimit(resource, &limit);                                               \
		}                                                                                  \
	} while (0)

/* The copy dumps no core. */
static void prepare_copy(void)
{
	sigset_t all;

	is_copy = true;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	sys_prctl(PR_SET_PDEATHSIG, SIGKILL);
	sys_prctl(PR_SET_DUMPABLE, 0);
	RAISE_LIMIT(RLIMIT_AS);
	RAISE_LIMIT(RLIMIT_NOFILE);
	if (backtrace_begins)
		backtrace_begins();
}

void backtrace_end_copy(void)
{
	while (is_copy)
		sluice_syscall(SYS_exit_group, 0);
}

/* Returns false if it still runs. */
static bool wait_for(pid_t pid, unsigned ms)
{
	const struct timespec pause = { 0, LOOK_NS };
	uint64_t start = clock_ns();

	for (;;) {
		long r = sluice_syscall(SYS_wait4, pid, NULL, __WALL | WNOHANG, NULL);

		if (r == pid || (r < 0 && errno != EINTR))
			return true;
		if (clock_ns() - start > (uint64_t)ms * 1000000u)
			return false;
		sluice_syscall(SYS_nanosleep, &pause, NULL);
	}
}

/* Waits for the copy to end. */
static void end_copy_of(pid_t pid)
{
	if (pid > 0 && !wait_for(pid, COPY_MS)) {
		kill(pid, SIGKILL);
		wait_for(pid, END_MS);
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
		/* In a chroot, another user may own the libunwind that would be loaded. */
		if (is_static())
			static_walk();
		else if (ourfd_same_root() && load(&u))
			walk(&u);
		backtrace_end_copy();
	}
	end_copy_of(pid);
}

bool backtrace_write_frames(const uintptr_t *pc, unsigned n)
{
	pid_t pid;

	if (sandbox_any())
		return false;
	pid = copy_process();
	if (pid == 0) {
		prepare_copy();
		for (unsigned i = 0; i < n; i++)
			write_frame(i, pc[i]);
		backtrace_end_copy();
	}
	end_copy_of(pid);
	return pid > 0;
}
#else
void backtrace_write(void)
{
}

bool backtrace_write_frames(const uintptr_t *pc, unsigned n)
{
	(void)pc;
	(void)n;
	return false;
}

void backtrace_end_copy(void)
{
}
#endif
