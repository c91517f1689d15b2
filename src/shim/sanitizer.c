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
 * that gcc has linked in has none: if the program defines malloc and pthread_create, its constants
 * are searched for the name of the sanitizer's options variable.
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
#include <sys/syscall.h>
#include <unistd.h>

#include "base/sys.h"
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

/* The program as it was mapped, and what its dynamic section names. */
struct program {
	const ElfW(Phdr) * headers;
	size_t n;
	uintptr_t base;
	const ElfW(Sym) * symbols;
	const char *names;
	const uint32_t *gnu_hash; /* DT_GNU_HASH, or NULL */
	const uint32_t *hash;     /* DT_HASH, or NULL */
};

/* An address of the dynamic section, in which glibc adds the base. */
static const void *dynamic_at(const struct program *p, uintptr_t at)
{
	return (const void *)(at < p->base ? at + p->base : at);
}

/* Returns false if the program has no symbols that can be found. */
static bool program_find(struct program *p)
{
	const ElfW(Dyn) *d = NULL;
	bool based = false;

	for (size_t i = 0; p->headers && i < p->n; i++) {
		if (p->headers[i].p_type == PT_PHDR) {
			p->base = (uintptr_t)p->headers - p->headers[i].p_vaddr;
			based = true;
		}
	}
	for (size_t i = 0; based && i < p->n; i++)
		if (p->headers[i].p_type == PT_DYNAMIC)
			d = (const ElfW(Dyn) *)(p->base + p->headers[i].p_vaddr);
	for (; d && d->d_tag != DT_NULL; d++) {
		if (d->d_tag == DT_SYMTAB)
			p->symbols = dynamic_at(p, d->d_un.d_ptr);
		else if (d->d_tag == DT_STRTAB)
			p->names = dynamic_at(p, d->d_un.d_ptr);
		else if (d->d_tag == DT_GNU_HASH)
			p->gnu_hash = dynamic_at(p, d->d_un.d_ptr);
		else if (d->d_tag == DT_HASH)
			p->hash = dynamic_at(p, d->d_un.d_ptr);
	}
	return p->symbols && p->names && (p->gnu_hash || p->hash);
}

/* Whether the symbol has that name and is defined in the program. One that is not has an address
 * all the same, its PLT entry, if a program that is no PIE takes the function's address. */
static bool defined_as(const struct program *p, size_t i, const char *name)
{
	const char *s = p->names + p->symbols[i].st_name;

	while (*name && *s == *name) {
		s++;
		name++;
		KEEP();
	}
	return *s == *name && p->symbols[i].st_shndx != SHN_UNDEF;
}

/* Whether the program defines that symbol. Source of the tables: the ELF specification, and for
 * DT_GNU_HASH that of the GNU linker. */
static bool defines(const struct program *p, const char *name)
{
	const uint32_t *t = p->gnu_hash;
	const uint32_t *buckets;
	const uint32_t *chain;
	uint32_t h = 5381;

	for (size_t i = 0; !t && i < p->hash[1]; i++)
		if (defined_as(p, i, name))
			return true;
	if (!t || !t[0])
		return false;
	for (const char *c = name; *c; c++)
		h = h * 33 + (unsigned char)*c;
	buckets = t + 4 + t[2] * (sizeof(ElfW(Addr)) / sizeof(*t));
	chain = buckets + t[0];
	for (uint32_t i = buckets[h % t[0]]; i >= t[1]; i++) {
		uint32_t c = chain[i - t[1]];

		if ((c | 1) == (h | 1) && defined_as(p, i, name))
			return true;
		if (c & 1)
			break;
	}
	return false;
}

/* The same for the constants of the program, if it defines what every sanitizer does and no other
 * malloc; else 0, and nothing of it is read. The text only if it has the constants, too. */
static char letter_of_program(void)
{
	struct program p = { .headers = (const ElfW(Phdr) *)sys_auxval(AT_PHDR),
			     .n = sys_auxval(AT_PHNUM) };
	char found = 0;

	if (!program_find(&p) || !defines(&p, "malloc") || !defines(&p, "pthread_create"))
		return 0;
	for (unsigned text = 0; text <= PF_X && !found; text += PF_X) {
		for (size_t i = 0; i < p.n && (!found || found == 'L'); i++) {
			const ElfW(Phdr) *h = &p.headers[i];
			char c;

			if (h->p_type != PT_LOAD ||
			    (h->p_flags & (PF_R | PF_W | PF_X)) != (PF_R | text))
				continue;
			c = letter_in((const char *)(p.base + h->p_vaddr), h->p_filesz);
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
	(void)!sluice_syscall(SYS_write, STDERR_FILENO, text, n);
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
	if (likely(!list || !find_us(list)) || sys_auxval(AT_SECURE))
		return;
	c = letter();
	if (likely(!c) || !take_us_out(list))
		return;
	say("sluice: the program is built with ");
	say(c == 'A' ? "Address" : c == 'T' ? "Thread" : c == 'M' ? "Memory" : "Leak");
	say("Sanitizer, which must be its malloc: it is started again without Sluice\n");
	/* By the name of the file, because it becomes the name of the process. */
	n = sluice_syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof(path) - 1);
	if (n > 0) {
		path[n] = 0;
		(void)sluice_syscall(SYS_execve, path, argv, envp);
	}
	(void)sluice_syscall(SYS_execve, "/proc/self/exe", argv, envp);
}
