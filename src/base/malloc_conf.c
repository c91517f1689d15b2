/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * malloc_conf.c - see malloc_conf.h. Used by the start (heap_thread); uses options.
 * Allocates nothing; runs before the process has a second thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/malloc_conf.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "base/sys.h"
#include "types.h"

#define VALUE_BYTES 256 /* as the longest string of the options table, with its end */
#define LIST_BYTES 200
#define SHOWN_BYTES 65 /* of what is not understood: a line has room for it */
#define QUOTED(x) #x
#define TEXT_OF(number) QUOTED(number)
#define DECAY_RANGE TEXT_OF(DECAY_MS_LEAST) " to " TEXT_OF(DECAY_MS_MOST)

bool malloc_conf_confirmed;

/* The option here for an option there, value by value. NULL stands for all other values, which are
 * the same here. doc/jemalloc.md has the same table. */
static const struct counterpart {
	const char *name;
	const char *value;
	const char *own_name;
	const char *own_value;
	unsigned lg_most; /* not 0: a logarithm there, at most this, for a number here */
} counterparts[] = {
	{ "background_thread", "true", "background", "auto", 0 },
	{ "background_thread", "false", "background", "never", 0 },
	{ "dirty_decay_ms", "-1", "decay_ms", TEXT_OF(DECAY_MS_MOST), 0 },
	{ "dirty_decay_ms", NULL, "decay_ms", NULL, 0 },
	{ "thp", "default", "thp", "system", 0 },
	{ "thp", NULL, "thp", NULL, 0 },
	{ "stats_print", NULL, "stats_print", NULL, 0 },
	{ "prof", NULL, "prof", NULL, 0 },
	{ "prof_active", NULL, "prof_active", NULL, 0 },
	{ "prof_thread_active_init", NULL, "prof_thread_active_init", NULL, 0 },
	{ "prof_final", NULL, "prof_final", NULL, 0 },
	{ "prof_leak", NULL, "prof_leak", NULL, 0 },
	{ "prof_prefix", NULL, "prof_prefix", NULL, 0 },
	{ "prof_gdump", NULL, "prof_gdump", NULL, 0 },
	{ "lg_prof_interval", "-1", "prof_interval", "0", 0 },
	{ "lg_prof_interval", NULL, "prof_interval", NULL, 50 },
	{ "lg_prof_sample", NULL, "prof_sample", NULL, 32 },
};

static bool is_text(const char *at, size_t len, const char *text)
{
	return strlen(text) == len && memcmp(at, text, len) == 0;
}

/* What decay_ms takes: the nearest to a number of milliseconds. NULL if it takes the number, or
 * value is none. */
static const char *nearest_decay(const char *value)
{
	size_t digits = strspn(value, "0123456789");
	unsigned long ms = digits > 9 ? ULONG_MAX : strtoul(value, NULL, 10);

	if (!digits || value[digits] || (ms >= DECAY_MS_LEAST && ms <= DECAY_MS_MOST))
		return NULL;
	return ms < DECAY_MS_LEAST ? TEXT_OF(DECAY_MS_LEAST) : TEXT_OF(DECAY_MS_MOST);
}

/* Writes 2 to the power of a value in its place. Returns false, with a line, if that is no number
 * here. */
static bool raise_to_power(const struct counterpart *c, char *value)
{
	char *end;
	unsigned long lg = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || lg > c->lg_most) {
		options_say("MALLOC_CONF: %s: '%s' is not valid, use 0 to %u", c->name, value,
			    c->lg_most);
		return false;
	}
	log_format(value, VALUE_BYTES, "%llu", 1ull << lg);
	return true;
}

enum outcome { TAKEN, NO_COUNTERPART, REFUSED, OUTCOMES };

/* Sets the option that corresponds to name:value. Says why if the value is refused. *nearest: see
 * nearest_decay, left alone for other options. */
static enum outcome set_counterpart(const char *name, size_t name_len, const char *value,
				    size_t value_len, const char **nearest)
{
	const struct counterpart *named = NULL;
	char same[VALUE_BYTES];

	memcpy(same, value, min_size(value_len, sizeof(same) - 1));
	same[min_size(value_len, sizeof(same) - 1)] = '\0';
	for (size_t i = 0; i < sizeof(counterparts) / sizeof(counterparts[0]); i++) {
		const struct counterpart *c = &counterparts[i];
		const char *own = c->own_value;

		if (!is_text(name, name_len, c->name))
			continue;
		named = c;
		if (c->value && strcmp(same, c->value) != 0)
			continue;
		if (value_len >= sizeof(same)) {
			options_say("MALLOC_CONF: %s: the value is longer than %u characters",
				    c->name, VALUE_BYTES - 1);
			return REFUSED;
		}
		if (strcmp(c->own_name, "decay_ms") == 0) {
			*nearest = own ? own : nearest_decay(same);
			own = *nearest;
		}
		if (!own && c->lg_most && !raise_to_power(c, same))
			return REFUSED;
		return options_default(c->own_name, own ? own : same, "MALLOC_CONF") ? TAKEN
										     : REFUSED;
	}
	if (!named)
		return NO_COUNTERPART;
	/* Those that have no counterpart for other values are flags. */
	options_say("MALLOC_CONF: %s: '%s' is not valid, use true or false", named->name, same);
	return REFUSED;
}

static bool list_has(const char *list, const char *name, size_t len)
{
	for (size_t n; *list; list += n + (list[n] ? 2 : 0)) {
		n = strcspn(list, ",");
		if (n == len && memcmp(list, name, n) == 0)
			return true;
	}
	return false;
}

/* Adds a name to a list, if it has room and not the name yet. */
static void list_add(char *list, const char *name, size_t len)
{
	size_t n = strlen(list);

	if (n + len + 3 > LIST_BYTES || list_has(list, name, len))
		return;
	if (n) {
		memcpy(list + n, ", ", 2);
		n += 2;
	}
	memcpy(list + n, name, len);
	list[n + len] = '\0';
}

static void say_malformed(const char *text, size_t len)
{
	char word[SHOWN_BYTES];
	size_t n = min_size(len, sizeof(word) - 1);

	memcpy(word, text, n);
	word[n] = '\0';
	options_say("MALLOC_CONF: '%s%s' is not of the form NAME:VALUE", word,
		    n < len ? "..." : "");
}

static void parse(const char *text)
{
	char list[OUTCOMES][LIST_BYTES] = { "" };
	const char *nearest = NULL;

	while (*text) {
		size_t len = strcspn(text, ",");
		size_t name_len = min_size(strcspn(text, ":"), len);
		const char *value = text + min_size(name_len + 1, len);
		size_t value_len = len - (size_t)(value - text);

		if (is_text(text, name_len, "confirm_conf"))
			malloc_conf_confirmed = is_text(value, value_len, "true");
		else if (name_len < len)
			list_add(list[set_counterpart(text, name_len, value, value_len, &nearest)],
				 text, name_len);
		else if (len)
			say_malformed(text, len);
		text += len + (text[len] == ',');
	}
	if (malloc_conf_confirmed)
		options_say("MALLOC_CONF: taken: %s; without a counterpart here: %s%s%s%s%s%s",
			    *list[TAKEN] ? list[TAKEN] : "nothing",
			    *list[NO_COUNTERPART] ? list[NO_COUNTERPART] : "nothing",
			    *list[REFUSED] ? "; refused: " : "", list[REFUSED],
			    nearest ? "; dirty_decay_ms counts as " : "", nearest ? nearest : "",
			    nearest ? ": decay_ms takes " DECAY_RANGE : "");
}

void malloc_conf_load(void)
{
	const char *text = environ && !sys_auxval(AT_SECURE) ? getenv("MALLOC_CONF") : NULL;

	if (text)
		parse(text);
}
