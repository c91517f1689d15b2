/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program with functions of its own that have names of functions of libc which ISO C and POSIX
 * leave to programs. It is linked with -rdynamic, so that libraries see them. None of them is ever
 * called: one that is ends the program with status 9.
 * usage: names [twice]
 *
 *   twice  frees a block twice. Also abort is a function of the program, which jumps away.
 */
#include "lib/check.h"

#include <pthread.h>
#include <setjmp.h>

static jmp_buf away;

/* By its name for the linker only: headers declare it otherwise. */
#define OWN(name)                                                                                  \
	__attribute__((used)) void own_##name(void) __asm__(#name);                                \
	void own_##name(void)                                                                      \
	{                                                                                          \
		helper_say("the program's own function was called: %s", #name);                    \
		_exit(9);                                                                          \
	}

OWN(dladdr1)
OWN(eventfd)
OWN(fstatfs)
OWN(getauxval)
OWN(mallinfo2)
OWN(malloc_stats_print)
OWN(mlockall)
OWN(prctl)
OWN(sched_getcpu)
OWN(setns)
OWN(strerrordesc_np)
OWN(syscall)
OWN(umount)
OWN(umount2)
OWN(unshare)
/* Of POSIX, but not of ISO C. */
OWN(bind)
OWN(setsockopt)
OWN(socket)

char *own_name __asm__("program_invocation_name") = (char *)16;
char *own_short_name __asm__("program_invocation_short_name") = (char *)16;

void abort(void)
{
	longjmp(away, 1);
}

static void *work(void *arg)
{
	for (size_t i = 0; i < 3000; i++)
		free(realloc(malloc(i * 17 % 40000), i));
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&t[i], NULL, work, NULL) == 0);
	for (int i = 0; i < 4; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	if (argc > 1 && strcmp(argv[1], "twice") == 0) {
		char *volatile p = malloc(100);

		if (setjmp(away) == 0) {
			free(p);
			free(p);
		} else {
			helper_say("the program goes on");
		}
	}
	return helper_end();
}
