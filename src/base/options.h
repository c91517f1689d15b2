/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - the options of options.def, their values and their parser.
 *
 * Values are read without a lock, in any context; those marked `any` may change while they are
 * read, as one aligned word each.
 */
#ifndef SLUICE_OPTIONS_H
#define SLUICE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_STRING_MAX 256

typedef uint64_t option_BOOL;
typedef uint64_t option_UINT;
typedef uint64_t option_SIZE;
typedef uint64_t option_LIMIT;
typedef uint64_t option_AUTO;
typedef uint64_t option_ENUM;
typedef char option_STRING[OPTION_STRING_MAX];

/* A LIMIT is bytes, or OPTION_PERCENT and a percentage. */
#define OPTION_PERCENT (UINT64_C(1) << 63)
#define OPTION_PERCENT_MAX 1000u

/* An AUTO is bytes, or this. */
#define OPTION_AUTO UINT64_MAX

struct options {
#define OPT(name, type, def, min, max, when, text) option_##type name;
#include "base/options.def"
#undef OPT
};

extern struct options options;

enum { PROFILE_BALANCED, PROFILE_LATENCY, PROFILE_MEMORY };
enum { BACKGROUND_AUTO, BACKGROUND_ALWAYS, BACKGROUND_NEVER };
enum { THP_SYSTEM, THP_NEVER, THP_AUTO, THP_ALWAYS, THP_RESERVE };

/*
 * Parse "name:value,name:value" from `from` (what the warning calls it: SLUICE_CONF or a file's
 * name, with a slash, which gets the line's number). What is wrong gets one line on standard error each and is skipped. A profile leaves alone what
 * was set by its own name, in this call or an earlier one. Returns how many settings were refused.
 */
unsigned options_parse(const char *text, const char *from);

/* As log_warn, of what is wrong with an option, at the start; not if a process that this one descends from has read
 * the same options, and so said it. */
void options_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "NAME=value" for the environment if something was said, so that those that this process starts do not say it
 * again; else NULL. */
char *options_told(void);

/* /etc/sluice.conf (settings separated by commas or lines, # begins a comment), then SLUICE_CONF,
 * which is left out for programs that gained privileges. False: libc has no environment yet, and
 * only the file was read. */
bool options_load(void);

#endif
