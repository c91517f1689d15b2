/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.c - see options.h. Primitive; used by init, and read by all layers.
 * Allocates nothing; runs before the process has a second thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "delay.h"
#include "log.h"
#include "sys.h"

#define CONF_FILE "/etc/sluice.conf"
#define CONF_FILE_BYTES 8192
#define WORD_BYTES 320

enum option_type { TYPE_BOOL, TYPE_UINT, TYPE_SIZE, TYPE_LIMIT, TYPE_AUTO, TYPE_STRING, TYPE_ENUM };

struct option_row {
	const char *name;
	enum option_type type;
	uint64_t min;
	uint64_t max;
	size_t offset;
	const char *text;
};

#define OPT(name, type, def, min, max, when, text) .name = (def),
static const struct options defaults = {
#include "options.def"
};
struct options options = {
#include "options.def"
};
#undef OPT

static const struct option_row rows[] = {
#define OPT(name, type, def, min, max, when, text)                                                 \
	{ #name, TYPE_##type, (min), (max), offsetof(struct options, name), text },
#include "options.def"
#undef OPT
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static bool given[ROWS]; /* set by its own name */

/* What the profiles set, in the order of enum PROFILE_*; balanced has the defaults. */
static const struct profile_row {
	const char *option;
	const char *value[PROFILE_MEMORY + 1];
} profile_rows[] = {
#define PROFILE(option, latency, memory) { #option, { NULL, latency, memory } },
#include "profiles.def"
#undef PROFILE
};

static const struct option_row *row_find(const char *name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

/* A decimal number, with K, M or G when size is set. False on anything else. */
static bool parse_number(const char *s, bool size, uint64_t *out)
{
	uint64_t v = 0;
	unsigned shift = 0;

	if (*s < '0' || *s > '9')
		return false;
	for (; *s >= '0' && *s <= '9'; s++) {
		if (v > (UINT64_MAX - 9) / 10)
			return false;
		v = v * 10 + (uint64_t)(*s - '0');
	}
	if (size && *s) {
		const char *units = "KMG";
		char upper = (char)(*s & ~0x20);
		const char *u = strchr(units, upper);

		if (!u)
			return false;
		shift = 10 * (unsigned)(u - units + 1);
		s++;
		if (*s == 'i')
			s++;
		if (*s == 'B')
			s++;
	}
	if (*s || v > (UINT64_MAX >> shift))
		return false;
	*out = v << shift;
	return true;
}

/* Bytes, or a percentage: "25%". */
static bool parse_limit(const char *s, uint64_t *out)
{
	uint64_t v = 0;
	const char *at = s;

	for (; *at >= '0' && *at <= '9' && v <= OPTION_PERCENT_MAX; at++)
		v = v * 10 + (uint64_t)(*at - '0');
	if (at == s || strcmp(at, "%") != 0)
		return parse_number(s, true, out);
	*out = OPTION_PERCENT | v;
	return v <= OPTION_PERCENT_MAX;
}

/* Bytes, or the word. */
static bool parse_auto(const char *s, uint64_t *out)
{
	*out = OPTION_AUTO;
	return strcmp(s, "auto") == 0 || parse_number(s, true, out);
}

static bool in_bounds(const struct option_row *row, uint64_t v)
{
	return (row->type == TYPE_LIMIT && (v & OPTION_PERCENT)) ||
	       (row->type == TYPE_AUTO && v == OPTION_AUTO) || (v >= row->min && v <= row->max);
}

static bool parse_bool(const char *s, uint64_t *out)
{
	static const char *const yes[] = { "1", "true", "yes", "on" };
	static const char *const no[] = { "0", "false", "no", "off" };

	for (size_t i = 0; i < 4; i++) {
		if (strcmp(s, yes[i]) == 0 || strcmp(s, no[i]) == 0) {
			*out = strcmp(s, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

/* The words are what the text begins with: "auto|always|never: ...". */
static bool parse_word(const char *s, const char *words, uint64_t *out)
{
	size_t len = strlen(s);

	for (uint64_t i = 0;; i++) {
		size_t n = strcspn(words, "|:");

		if (n == len && memcmp(s, words, n) == 0) {
			*out = i;
			return true;
		}
		if (words[n] != '|')
			return false;
		words += n + 1;
	}
}

static void warn_value(const struct option_row *row, const char *value, const char *from)
{
	char words[WORD_BYTES];

	switch (row->type) {
	case TYPE_BOOL:
		log_warn("%s: option %s: '%s' is not valid, use 0 or 1", from, row->name, value);
		break;
	case TYPE_ENUM:
		log_format(words, strcspn(row->text, ":") + 1, "%s", row->text);
		log_warn("%s: option %s: '%s' is not valid, use %s", from, row->name, value, words);
		break;
	default:
		log_warn("%s: option %s: '%s' is not valid, use %lu to %lu%s%s", from, row->name,
			 value, (unsigned long)row->min, (unsigned long)row->max,
			 row->type == TYPE_UINT || row->max < 1024 ? ""
								   : " bytes (K, M, G may follow)",
			 row->type == TYPE_LIMIT  ? " or 0% to 1000%"
			 : row->type == TYPE_AUTO ? " or auto"
						  : "");
		break;
	}
}

static bool row_set(const struct option_row *row, const char *value, const char *from)
{
	char *field = (char *)&options + row->offset;
	uint64_t v = 0;
	bool good = true;

	switch (row->type) {
	case TYPE_STRING:
		if (strlen(value) > row->max) {
			log_warn("%s: option %s: value is longer than %lu characters", from,
				 row->name, (unsigned long)row->max);
			return false;
		}
		memcpy(field, value, strlen(value) + 1);
		return true;
	case TYPE_BOOL:
		good = parse_bool(value, &v);
		break;
	case TYPE_ENUM:
		good = parse_word(value, row->text, &v);
		break;
	case TYPE_UINT:
	case TYPE_SIZE:
		good = parse_number(value, row->type == TYPE_SIZE, &v);
		break;
	case TYPE_LIMIT:
		good = parse_limit(value, &v);
		break;
	case TYPE_AUTO:
		good = parse_auto(value, &v);
		break;
	}
	if (!good || !in_bounds(row, v)) {
		warn_value(row, value, from);
		return false;
	}
	memcpy(field, &v, sizeof(v));
	return true;
}

/* Those options that were not set by their own names become what the profile says. */
static void profile_apply(void)
{
	for (size_t i = 0; i < sizeof(profile_rows) / sizeof(profile_rows[0]); i++) {
		const struct option_row *row = row_find(profile_rows[i].option);
		const char *value = profile_rows[i].value[options.profile];

		if (given[row - rows])
			continue;
		if (value)
			row_set(row, value, "profile");
		else
			memcpy((char *)&options + row->offset,
			       (const char *)&defaults + row->offset, sizeof(uint64_t));
	}
}

static bool setting_apply(char *word, const char *from)
{
	char *colon = strchr(word, ':');
	const struct option_row *row;

	if (!colon || colon == word) {
		log_warn("%s: '%s' is not of the form name:value", from, word);
		return false;
	}
	*colon = '\0';
	row = row_find(word);
	if (!row) {
		log_warn("%s: there is no option '%s' (sluice-run --help lists them)", from, word);
		return false;
	}
	if (!row_set(row, colon + 1, from))
		return false;
	given[row - rows] = true;
	if (strcmp(row->name, "profile") == 0)
		profile_apply();
	return true;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The next setting: its length, with *text moved past white space, separators and comments ('#' at
 * the start of a word, to the end of the line). 0: the end. */
static size_t setting_next(const char **text)
{
	const char *at = *text;
	size_t len;

	for (;;) {
		while (is_space(*at) || *at == ',')
			at++;
		if (*at != '#')
			break;
		at += strcspn(at, "\n");
	}
	for (len = 0; at[len] && at[len] != ',' && at[len] != '\n'; len++)
		if (at[len] == '#' && len && is_space(at[len - 1]))
			break;
	while (len && is_space(at[len - 1]))
		len--;
	*text = at;
	return len;
}

unsigned options_parse(const char *text, const char *from)
{
	char word[WORD_BYTES];
	unsigned refused = 0;
	size_t len;

	for (; (len = setting_next(&text)) != 0; text += len) {
		if (len >= sizeof(word)) {
			log_warn("%s: a setting is longer than %u characters", from, WORD_BYTES);
			refused++;
			continue;
		}
		memcpy(word, text, len);
		word[len] = '\0';
		refused += !setting_apply(word, from);
	}
	return refused;
}

static void load_file(void)
{
	char text[CONF_FILE_BYTES];
	ssize_t n;
	int fd = sys_open(CONF_FILE, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);

	if (fd < 0)
		return;
	n = sys_read(fd, text, sizeof(text) - 1);
	sys_close(fd);
	if (n <= 0)
		return;
	if ((size_t)n == sizeof(text) - 1)
		log_warn("%s: only its first %u bytes are read", CONF_FILE, CONF_FILE_BYTES - 1);
	text[n] = '\0';
	options_parse(text, CONF_FILE);
}

bool options_load(void)
{
	int saved = errno;
	const char *conf;

	load_file();
	conf = environ && !getauxval(AT_SECURE) ? getenv("SLUICE_CONF") : NULL;
	if (conf)
		options_parse(conf, "SLUICE_CONF");
	log_backtrace = options.backtrace != 0;
	DELAY_LOAD();
	errno = saved;
	return environ != NULL;
}
