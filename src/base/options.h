/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.h - the values of the options in options.def, and their parser.
 *
 * Values are read without a lock in any context. Those marked `any` may change meanwhile, each as
 * one aligned word.
 */
#ifndef SLUICE_OPTIONS_H
#define SLUICE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/sealed.h"

#define OPTION_STRING_MAX 256

typedef uint64_t option_BOOL;
typedef uint64_t option_UINT;
typedef uint64_t option_SIZE;
typedef uint64_t option_LIMIT;
typedef uint64_t option_AUTO;
typedef uint64_t option_ENUM;
typedef char option_STRING[OPTION_STRING_MAX];

/* A LIMIT is bytes, or OPTION_PERCENT | percentage. */
#define OPTION_PERCENT (UINT64_C(1) << 63)
#define OPTION_PERCENT_MAX 1000u

/* An AUTO is bytes, or OPTION_AUTO. */
#define OPTION_AUTO UINT64_MAX

struct options {
#define OPT(name, type, def, min, max, when, text) option_##type name;
#include "base/options.def"
#undef OPT
} SEALED_TYPE;

extern struct options options;

enum { PROFILE_BALANCED, PROFILE_LATENCY, PROFILE_MEMORY, PROFILE_HARDENED };
enum { BACKGROUND_AUTO, BACKGROUND_ALWAYS, BACKGROUND_NEVER };
enum { CHECK_BASIC, CHECK_FULL };
enum { THP_SYSTEM, THP_NEVER, THP_AUTO, THP_ALWAYS, THP_RESERVE };

/*
 * Parses "name:value,name:value". from: source for the warnings, SLUICE_CONF or the name of a file;
 * if it contains a slash, the warnings add the number of the line. Each setting that is wrong is
 * skipped and gets one line on standard error. A profile does not change options that were set by
 * name, in this call or an earlier one. Returns how many settings were refused.
 */
unsigned options_parse(const char *text, const char *from);

/* Sets an option that exists to a value from a source other than its own, unless it was set by
 * name. Returns false, after a warning, if the value is not valid. At the start. */
bool options_default(const char *name, const char *value, const char *from);

/* Whether an option that exists was set by name, not by a profile. */
bool options_given(const char *name);

/* While the process runs: sets an option marked `any`; shows the value of an option. Return false,
 * and why in the buffer, if that cannot be. One thread at a time. */
bool options_change(const char *name, const char *value, char *why, size_t room);
bool options_show(const char *name, char *buf, size_t room);

/* Like log_warn, for what is wrong with an option at the start. Writes nothing if an ancestor of
 * this process has read the same options and so has written the same. */
void options_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Returns "NAME=value" for the environment if a warning was written, so that child processes do not
 * repeat it. Otherwise returns NULL. */
char *options_told(void);

/* Reads /etc/sluice.conf (settings separated by commas or lines, # begins a comment), then
 * SLUICE_CONF, unless the program has gained privileges. Returns false if libc has no environment
 * yet, so that only the file was read. */
bool options_load(void);

#endif
