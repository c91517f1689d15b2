/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * steps: what the calls of the malloc family execute when they hit, instruction by instruction.
 *
 *	steps LIBRARY | --known
 *
 * One line for each case: its name, and how many instructions, branches (jumps, taken or not),
 * calls (system calls, too), atomics (locked ones, xchg with memory, fences) and divisions it
 * executed inside LIBRARY; what a call of another library does, such as memset, is not counted.
 * Runs under the library; a child is stepped by its parent (ptrace) from the entry of each function
 * to its return.
 *
 * Exit status: 0; 1 when a function is not LIBRARY's or the child went astray, 77 when this is no
 * x86-64 machine or ptrace is refused, 2 for bad arguments. --known steps through a function of its
 * own whose counts are known, which tests the stepping itself.
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#define STEPS_MAX 100000u /* from the signal to the return; a hit takes far fewer than 1,000 */
#define WARM 600 /* the first 512 frees of a thread are no hits: HEAP_LOOKS in cache_bin.h */

enum form { ALLOC, ZEROED, FREE };

/* A FREE frees what the row before it allocated. */
struct test {
	const char *name;
	const char *symbol;
	enum form form;
	size_t size;
	void *entry;
};

static struct test family[] = {
	{ "malloc-16", "malloc", ALLOC, 16, NULL },
	{ "free-16", "free", FREE, 16, NULL },
	{ "malloc-1024", "malloc", ALLOC, 1024, NULL },
	{ "free-1024", "free", FREE, 1024, NULL },
	{ "malloc-2048", "malloc", ALLOC, 2048, NULL },
	{ "free-2048", "free", FREE, 2048, NULL },
	{ "malloc-32768", "malloc", ALLOC, 32768, NULL },
	{ "free-32768", "free", FREE, 32768, NULL },
	{ "calloc-64", "calloc", ZEROED, 64, NULL },
	{ "free-64", "free", FREE, 64, NULL },
	{ "new-64", "_Znwm", ALLOC, 64, NULL },
	{ "delete-64", "_ZdlPvm", FREE, 64, NULL },
};

static struct test known_test = { "known", "known", ALLOC, 1, NULL };

static struct test *tests = family;
static size_t test_count = sizeof(family) / sizeof(family[0]);

static uintptr_t text_begin, text_end; /* LIBRARY's code */

static _Noreturn void die(const char *what, const char *name)
{
	fprintf(stderr, "steps: %s: %s\n", name, what);
	exit(1);
}

/* 25 instructions: 3 branches, 3 calls (one a system call), 5 atomics, 2 divisions. */
void *known(size_t one);
__asm__(".text\n"
	".type known, @function\n"
	"known:\n"
	"	push %rdi\n"
	"	lock incq (%rsp)\n"
	"	xchg %rdi, (%rsp)\n"
	"	xchg %rdi, %rax\n" /* between registers: no atomic */
	"	mfence\n"
	"	lock cmpxchg %r8, (%rsp)\n"
	"	lock xaddl %r8d, (%rsp)\n"
	"	mov $39, %eax\n" /* getpid */
	"	syscall\n"
	"	mov $9, %eax\n"
	"	xor %edx, %edx\n"
	"	mov $3, %ecx\n"
	"	div %rcx\n"
	"	idivl %ecx\n"
	"	jmp 1f\n"
	"1:	jz 2f\n"
	"2:	call 3f\n"
	"	lea 4f(%rip), %r9\n"
	"	call *%r9\n"
	"	pop %rdi\n"
	"	xor %eax, %eax\n" /* nothing to free */
	"	ret\n"
	"3:	jrcxz 3b\n"
	"	ret\n"
	"4:	ret\n"
	".size known, . - known\n");

/* ---- the child ------------------------------------------------------------------------------- */

static void *call(const struct test *t, void *p)
{
	union {
		void *object;
		void *(*alloc)(size_t);
		void *(*zeroed)(size_t, size_t);
		void (*release)(void *, size_t); /* free ignores the second argument */
	} fn = { t->entry };

	switch (t->form) {
	case ALLOC:
		return fn.alloc(t->size);
	case ZEROED:
		return fn.zeroed(1, t->size);
	case FREE:
		fn.release(p, t->size);
	}
	return NULL;
}

/* The signal tells the parent to step through the next call of the entry. */
static _Noreturn void be_stepped(void)
{
	void *p = NULL;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(77);
	for (size_t i = 0; i < test_count; i++) {
		for (unsigned k = 0; tests[i].form != FREE && k < WARM; k++)
			free(call(&tests[i], NULL));
		raise(SIGUSR1);
		p = call(&tests[i], p);
	}
	_exit(0);
}

/* ---- the parent ------------------------------------------------------------------------------ */

struct counts {
	unsigned instructions, branches, calls, atomics, divisions;
};

static bool is_prefix(uint8_t b)
{
	return b == 0x26 || b == 0x2e || b == 0x36 || b == 0x3e || (b >= 0x64 && b <= 0x67) ||
	       b == 0xf0 || b == 0xf2 || b == 0xf3;
}

/* code: the bytes of one instruction and what follows it. Source: the opcode maps in appendix A of
 * Intel's manual, volume 2. */
static void classify(const uint8_t *code, struct counts *c)
{
	bool locked = false;
	uint8_t op, modrm, reg;

	for (; is_prefix(*code); code++)
		locked |= *code == 0xf0;
	if ((*code & 0xf0) == 0x40) /* REX */
		code++;
	op = *code;
	modrm = code[1];
	reg = (modrm >> 3) & 7;
	c->instructions++;
	if (op == 0x0f) {
		uint8_t modrm2 = code[2];

		c->branches += (modrm & 0xf0) == 0x80;
		c->calls += modrm == 0x05;
		/* lfence, mfence, sfence */
		c->atomics += locked || (modrm == 0xae && modrm2 >= 0xe8);
		return;
	}
	c->branches += (op & 0xf0) == 0x70 || op == 0xeb || op == 0xe9 ||
		       (op >= 0xe0 && op <= 0xe3) || (op == 0xff && (reg == 4 || reg == 5));
	c->calls += op == 0xe8 || (op == 0xff && (reg == 2 || reg == 3));
	c->atomics += locked || ((op == 0x86 || op == 0x87) && modrm < 0xc0);
	c->divisions += (op == 0xf6 || op == 0xf7) && reg >= 6;
}

/* Returns where the child is; if step is set, after one step. */
static struct user_regs_struct registers(pid_t child, bool step, const char *name)
{
	struct user_regs_struct regs;
	int status;

	if (step && (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 ||
		     waitpid(child, &status, 0) != child || !WIFSTOPPED(status) ||
		     WSTOPSIG(status) != SIGTRAP))
		die("the child could not be stepped", name);
	if (ptrace(PTRACE_GETREGS, child, NULL, &regs) != 0)
		die(strerror(errno), name);
	return regs;
}

static struct counts step_through(pid_t child, const struct test *t)
{
	struct counts c = { 0 };
	struct user_regs_struct regs = registers(child, false, t->name);
	unsigned steps = 0;
	uintptr_t entry_sp;

	while (regs.rip != (uintptr_t)t->entry) {
		if (++steps == STEPS_MAX)
			die("never called", t->name);
		regs = registers(child, true, t->name);
	}
	/* The return pops the return address, so the stack is shorter than at the entry. */
	entry_sp = regs.rsp;
	while (regs.rsp <= entry_sp) {
		if (++steps == STEPS_MAX)
			die("does not return", t->name);
		if (regs.rip >= text_begin && regs.rip < text_end) {
			/* The child's memory is ours as it was at the fork, and code does not
			 * change. */
			uint8_t code[24];

			for (unsigned i = 0; i < sizeof(code); i++)
				code[i] = regs.rip + i < text_end ? ((const uint8_t *)regs.rip)[i]
								  : 0;
			classify(code, &c);
		}
		regs = registers(child, true, t->name);
	}
	return c;
}

static void find_text(const char *library)
{
	char line[4352];
	FILE *maps = fopen("/proc/self/maps", "re");

	if (!maps)
		die(strerror(errno), "/proc/self/maps");
	while (fgets(line, sizeof(line), maps)) {
		uintptr_t begin, end;
		char exec;
		int path = 0;

		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%lx-%lx %*2c%c%*c %*s %*s %*s %n", &begin, &end, &exec, &path) ==
			    3 &&
		    exec == 'x' && strcmp(line + path, library) == 0) {
			text_begin = begin;
			text_end = end;
		}
	}
	fclose(maps);
	if (!text_end)
		die("not mapped", library);
}

int main(int argc, char **argv)
{
	char path[PATH_MAX];
	pid_t child;
	int status = 0;

	if (argc != 2) {
		fputs("steps: one argument, the path of the library or --known\n", stderr);
		return 2;
	}
	if (strcmp(argv[1], "--known") == 0) {
		known_test.entry = (void *)(uintptr_t)known;
		tests = &known_test;
		test_count = 1;
		find_text(realpath("/proc/self/exe", path));
	} else {
		find_text(argv[1]);
	}
	for (size_t i = 0; i < test_count; i++) {
		if (!tests[i].entry)
			tests[i].entry = dlsym(RTLD_DEFAULT, tests[i].symbol);
		if ((uintptr_t)tests[i].entry < text_begin || (uintptr_t)tests[i].entry >= text_end)
			die("not the library's", tests[i].symbol);
	}
	child = fork();
	if (child == 0)
		be_stepped();
	if (child < 0)
		die(strerror(errno), "fork");
	for (size_t i = 0; i < test_count; i++) {
		struct counts c;

		if (i && ptrace(PTRACE_CONT, child, NULL, NULL) != 0)
			die(strerror(errno), "ptrace");
		if (waitpid(child, &status, 0) != child)
			die(strerror(errno), "waitpid");
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
			fputs("steps: ptrace is refused\n", stderr);
			return 77;
		}
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGUSR1)
			die("the child did not get there", tests[i].name);
		c = step_through(child, &tests[i]);
		printf("%-13s %12u %8u %5u %7u %9u\n", tests[i].name, c.instructions, c.branches,
		       c.calls, c.atomics, c.divisions);
	}
	ptrace(PTRACE_KILL, child, NULL, NULL);
	return 0;
}

#else

int main(void)
{
	fputs("steps: knows the instructions of x86-64 only\n", stderr);
	return 77;
}

#endif
