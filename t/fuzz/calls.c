/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz/calls - sequences of calls against an oracle that knows what is live. For libFuzzer; `make
 * fuzz` builds it.
 *
 * The first byte of the input says whether misuses are mixed in. Without them the calls are made in
 * this process. With them a child makes the calls, because it is to be stopped:
 *
 *   at once     the middle of a block, memory that is not ours, a repeat of the last free: must
 *               stop the child by SIGABRT
 *   link        8 bytes written into a freed block: may stop it, must not change a live block
 *   late        a second free after others: may stop it or lead to two owners of a block
 *
 * In no case may the library itself fault or loop.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/options.h"
#include "heap/heap.h"
#include "reclaim/reclaim.h"
#include "shim/init.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { SLOTS = 128, EDGE = 32, CHILD_WRONG = 9 };

struct slot {
	unsigned char *p;
	size_t bytes;
	unsigned char tag;
};

static struct slot slot[SLOTS];
static void *freed[16]; /* the last ones; may be allocated again by now */
static size_t freed_bytes[16];
static unsigned frees;
static bool in_child;
static bool owners_differ; /* a late second free: two slots may share memory from now on */
static unsigned char outside[4096];

struct input {
	const uint8_t *at, *end;
};

static unsigned next(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static _Noreturn void wrong(const char *what)
{
	fprintf(stderr, "fuzz/calls: %s\n", what);
	if (in_child)
		_exit(CHILD_WRONG);
	abort();
}

/* All sizes come up: small, large, huge, and some beside the borders of classes. */
static size_t size_of(struct input *in)
{
	unsigned how = next(in);
	size_t n = (size_t)1 << (how % 27);

	return n + next(in) * (n / 256 + (how & 1)) + (how >> 7);
}

static void mark(struct slot *s, unsigned tag)
{
	size_t edge = s->bytes < EDGE ? s->bytes : EDGE;

	s->tag = (unsigned char)tag;
	memset(s->p, s->tag, edge);
	memset(s->p + s->bytes - edge, s->tag, edge);
}

static void check(const struct slot *s, size_t bytes)
{
	size_t edge = s->bytes < EDGE ? s->bytes : EDGE;

	if (owners_differ)
		return;
	for (size_t i = 0; i < edge && i < bytes; i++)
		if (s->p[i] != s->tag)
			wrong("a live block has changed");
	for (size_t i = 0; i < edge && bytes >= s->bytes; i++)
		if (s->p[s->bytes - 1 - i] != s->tag)
			wrong("the end of a live block has changed");
}

static void given(struct slot *s, void *p, size_t bytes, size_t align, unsigned tag)
{
	if (!p)
		return;
	if ((uintptr_t)p % align)
		wrong("a block is not aligned");
	if ((uintptr_t)p - (uintptr_t)outside < sizeof(outside))
		wrong("malloc returned what was written into a free block");
	if (heap_usable(p) < bytes)
		wrong("a block is shorter than asked for");
	s->p = p;
	s->bytes = bytes;
	mark(s, tag);
}

static void release(struct slot *s)
{
	check(s, s->bytes);
	freed[frees % 16] = s->p;
	freed_bytes[frees % 16] = s->bytes;
	frees++;
	heap_free(s->p);
	s->p = NULL;
}

static bool is_live(const void *p)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (slot[i].p == p)
			return true;
	return false;
}

static void resize(struct slot *s, size_t bytes, unsigned tag)
{
	void *p;

	check(s, s->bytes);
	p = heap_realloc(s->p, bytes ? bytes : 1);
	if (!p)
		return;
	s->p = p;
	check(s, bytes < s->bytes ? bytes : s->bytes - (s->bytes < EDGE ? 0 : EDGE));
	s->bytes = bytes ? bytes : 1;
	mark(s, tag);
}

static void legal(struct input *in, unsigned op, struct slot *s)
{
	struct reclaim_report r;
	unsigned tag = next(in);
	size_t align;

	switch (op % 8) {
	case 0:
	case 1:
	case 2:
		if (s->p) {
			release(s);
		} else {
			size_t n = size_of(in);

			given(s, heap_alloc(n), n ? n : 1, 16, tag);
		}
		break;
	case 3:
		if (s->p)
			resize(s, size_of(in), tag);
		break;
	case 4:
		align = (size_t)16 << (tag % 12);
		if (!s->p) {
			size_t n = size_of(in);

			given(s, heap_alloc_aligned(n, align), n ? n : 1, align, tag);
		}
		break;
	case 5:
		if (s->p && heap_usable(s->p) < s->bytes)
			wrong("a block is shorter than asked for");
		break;
	case 6:
		for (unsigned i = 0; i < SLOTS; i++)
			if (slot[i].p)
				check(&slot[i], slot[i].bytes);
		break;
	default:
		reclaim_drain(tag % 4 ? RECLAIM_IDLE : RECLAIM_FLAGS, 0, &r);
	}
}

/* The child must be stopped by this free. */
static void stopped_by(void *p)
{
	heap_free(p);
	wrong("a wrong free went unnoticed");
}

static void misuse(struct input *in, unsigned op, struct slot *s)
{
	unsigned pick = next(in) % 16;
	void *to = outside;
	size_t at;

	switch (op % 5) {
	case 0: /* the middle */
		if (s->p && s->bytes > 1) {
			at = 1 + next(in) * (s->bytes - 1) / 256;
			stopped_by(s->p + (at < s->bytes ? at : 1));
		}
		break;
	case 1:
		stopped_by(outside + 16 * pick);
		break;
	case 2: /* at once */
		if (s->p) {
			to = s->p;
			release(s);
			stopped_by(to);
		}
		break;
	case 3: /* not huge: the page may be gone, which is a fault of this program */
		if (freed[pick] && !is_live(freed[pick]) && freed_bytes[pick] <= 16384)
			memcpy(freed[pick], &to, sizeof(to));
		break;
	default:
		if (freed[pick] && !is_live(freed[pick])) {
			owners_differ = true;
			heap_free(freed[pick]);
		}
	}
}

static void run(struct input *in, bool misuses)
{
	while (in->at < in->end) {
		unsigned op = next(in);
		struct slot *s = &slot[next(in) % SLOTS];

		if (misuses && op >= 240)
			misuse(in, op, s);
		else
			legal(in, op, s);
	}
	for (unsigned i = 0; i < SLOTS; i++)
		if (slot[i].p)
			release(&slot[i]);
	frees = 0;
	memset(freed, 0, sizeof(freed));
}

static void run_child(struct input *in)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return;
	if (pid == 0) {
		in_child = true;
		signal(SIGABRT, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		signal(SIGALRM, SIG_DFL);
		alarm(60);
		run(in, true);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid)
		return;
	if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT) &&
	    !(WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
		fprintf(stderr, "fuzz/calls: the child ended with status %#x\n", (unsigned)status);
		abort();
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	setenv("SLUICE_CONF", "backtrace:0,background:never", 0);
	options_load();
	sluice_init();
	fatal_backtrace = false;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct input in = { data, data + bytes };

	if (next(&in) & 1)
		run_child(&in);
	else
		run(&in, false);
	return 0;
}
