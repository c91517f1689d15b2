/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sanitizer.c - see sanitizer.h. Used by init.
 *
 * ASan, TSan, MSan and LSan must be the process's malloc, and must start before any other code
 * calls libc. A preloaded malloc comes before them: ASan then ends the program, TSan crashes or
 * hangs, LSan finds nothing. A loaded library cannot be unloaded, so we execute the program again
 * without us, as the runtime of TSan does when the address space does not suit it.
 *
 * (A) The only function of libc called here is syscall, which is ours: the functions for memory and
 *     strings are the sanitizer's, which is not initialised. Hence the loops; KEEP stops the
 *     compiler from turning them into calls.
 * (B) It happens at most once: only if LD_PRELOAD names us, and then we remove ourselves from it.
 * (C) It happens before the program's first instruction, because our constructor is the first one
 *     (-z initfirst). If we are loaded later, by dlopen, LD_PRELOAD does not name us.
 *
 * A sanitizer runtime that is a library, or that clang has linked in, has a visible symbol. One
 * that gcc has linked in has none: if the program defines malloc, its constants are searched for
 * the name of the sanitizer's options variable.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/sanitizer.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "types.h"

extern void __hwasan_init(void) __attribute__((weak));
extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));
extern void __msan_init(void) __attribute__((weak));
extern void __lsan_init(void) __attribute__((weak));

#define OPTIONS_NAME "SAN_OPTIONS" /* behind a letter */
#define OUR_NAME "libsluice"
#define KEEP() __asm__ volatile("" ::: "memory")

static bool begins_with(const char *s, const char *with)
{
	while (*with && *s == *with) {
		s++;
		with++;
		KEEP();
	}
	return !*with;
}

/* The letter before OPTIONS_NAME in a string constant, or 0 if there is none. A program with ASan
 * has the constant of LSan as well. */
static char letter_in(const char *at, size_t bytes)
{
	char found = 0;

	for (size_t i = 2; i + sizeof(OPTIONS_NAME) <= bytes; i++) {
		if (at[i] != OPTIONS_NAME[0] || at[i - 2] || at[i + sizeof(OPTIONS_NAME) - 1] ||
		    !begins_with(at + i, OPTIONS_NAME))
			continue;
		if (at[i - 1] == 'A' || at[i - 1] == 'T' || at[i - 1] == 'M')
			return at[i - 1];
		if (at[i - 1] == 'L')
			found = 'L';
	}
	return found;
}

/* The same for the constants of the program, if it defines malloc; else 0. */
static char letter_of_program(void)
{
	const ElfW(Phdr) *ph = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	uintptr_t own = (uintptr_t)malloc;
	size_t n = getauxval(AT_PHNUM);
	uintptr_t base = 0;
	bool its = false;
	char found = 0;

	if (!ph)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (ph[i].p_type == PT_PHDR)
			base = (uintptr_t)ph - ph[i].p_vaddr;
	for (size_t i = 0; i < n; i++)
		its |= ph[i].p_type == PT_LOAD && own - base - ph[i].p_vaddr < ph[i].p_memsz;
	for (size_t i = 0; its && i < n && (!found || found == 'L'); i++) {
		if (ph[i].p_type == PT_LOAD && ph[i].p_flags & PF_R && !(ph[i].p_flags & PF_W)) {
			char c = letter_in((const char *)(base + ph[i].p_vaddr), ph[i].p_filesz);

			found = c ? c : found;
		}
	}
	return found;
}

static char letter(void)
{
	if (__hwasan_init || __asan_init)
		return 'A';
	if (__tsan_init)
		return 'T';
	if (__msan_init)
		return 'M';
	return __lsan_init ? 'L' : letter_of_program();
}

/* The path in the list whose file has our name. Returns NULL if there is none. */
static char *find_us(char *list)
{
	char *path = list;

	for (char *at = list; *at; at++) {
		if (*at == ':' || *at == ' ')
			path = at + 1;
		else if (*at == '/' || at == path)
			if (begins_with(*at == '/' ? at + 1 : at, OUR_NAME))
				return path;
		KEEP();
	}
	return NULL;
}

/* Removes each path of ours from the list, in place. Returns false if there was none. */
static bool take_us_out(char *list)
{
	bool any = false;
	char *to;

	while ((to = find_us(list)) != NULL) {
		const char *from = to;

		while (*from && *from != ':' && *from != ' ') {
			from++;
			KEEP();
		}
		if (*from)
			from++;
		do {
			*to++ = *from;
			KEEP();
		} while (*from++);
		any = true;
	}
	return any;
}

static void say(const char *text)
{
	size_t n = 0;

	while (text[n]) {
		n++;
		KEEP();
	}
	(void)!syscall(SYS_write, STDERR_FILENO, text, n);
}

void sanitizer_step_aside(char **argv, char **envp)
{
	char path[4096];
	char *list = NULL;
	char c;
	long n;

	for (char **e = envp; e && *e && !list; e++)
		if (begins_with(*e, "LD_PRELOAD="))
			list = *e + sizeof("LD_PRELOAD=") - 1;
	if (likely(!list || !find_us(list)) || getauxval(AT_SECURE))
		return;
	c = letter();
	if (likely(!c) || !take_us_out(list))
		return;
	say("sluice: the program is built with ");
	say(c == 'A' ? "Address" : c == 'T' ? "Thread" : c == 'M' ? "Memory" : "Leak");
	say("Sanitizer, which must be its malloc: it is started again without Sluice\n");
	/* By the name of the file, because it becomes the name of the process. */
	n = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof(path) - 1);
	if (n > 0) {
		path[n] = 0;
		(void)syscall(SYS_execve, path, argv, envp);
	}
	(void)syscall(SYS_execve, "/proc/self/exe", argv, envp);
}
