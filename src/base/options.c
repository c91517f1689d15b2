/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * options.c - see options.h. Primitive; used by heap_thread (its start) and init. All layers read
 * the values.
 * Allocates nothing; runs before the process has a second thread.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/options.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/delay.h"
#include "base/log.h"
#include "base/stats.h"
#include "base/sys.h"
#include "types.h"

#define CONF_FILE "/etc/sluice.conf"
#define CONF_FILE_BYTES 8192
#define WORD_BYTES 320
#define LINE_BYTES 480 /* of a warning, and of its parts: */
#define PLACE_BYTES 64
#define TEXT_BYTES 96
#define SHOWN_BYTES 68

enum option_when { WHEN_start, WHEN_any };
enum option_type { TYPE_BOOL, TYPE_UINT, TYPE_SIZE, TYPE_LIMIT, TYPE_AUTO, TYPE_STRING, TYPE_ENUM };

struct option_row {
	const char *name;
	enum option_type type;
	uint64_t min;
	uint64_t max;
	size_t offset;
	enum option_when when;
	const char *text;
};

#define OPT(name, type, def, min, max, when, text) .name = (def),
static const struct options defaults = {
#include "base/options.def"
};
struct options options SEALED = {
#include "base/options.def"
};
#undef OPT

static const struct option_row rows[] = {
#define OPT(name, type, def, min, max, when, text)                                                 \
	{ #name, TYPE_##type, (min), (max), offsetof(struct options, name), WHEN_##when, text },
#include "base/options.def"
#undef OPT
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static bool given[ROWS]; /* set by name, not by a profile */

/* Values in each profile, in the order of enum PROFILE_*. NULL: the default. */
static const struct profile_row {
	const char *option;
	const char *value[PROFILE_HARDENED + 1];
} profile_rows[] = {
#define PROFILE(option, latency, memory) { #option, { NULL, latency, memory, NULL } },
#define HARDENED(option, value) { #option, { NULL, NULL, NULL, value } },
#include "base/profiles.def"
#undef PROFILE
#undef HARDENED
};

static const struct option_row *row_find(const char *name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(rows[i].name, name) == 0)
			return &rows[i];
	return NULL;
}

static const char units[] = "KMGT";

/* Parses a decimal number, with K, M, G or T if size is set. Returns false on anything else. */
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
		const char *u = strchr(units, *s >= 'a' && *s <= 'z' ? *s - 'a' + 'A' : *s);

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

/* Parses bytes or a percentage, "25%". */
static bool parse_limit(const char *s, uint64_t *out)
{
	uint64_t v = 0;
	const char *at = s;

	for (; *at >= '0' && *at <= '9' && v <= OPTION_PERCENT_MAX; at++)
		v = v * 10 + (uint64_t)(*at - '0');
	if (at == s || strcmp(at, "%") != 0)
		return parse_number(s, true, out) && !(*out & OPTION_PERCENT);
	*out = OPTION_PERCENT | v;
	return v <= OPTION_PERCENT_MAX;
}

/* Parses bytes or the word auto. */
static bool parse_auto(const char *s, uint64_t *out)
{
	if (strcmp(s, "auto") != 0)
		return parse_number(s, true, out) && *out != OPTION_AUTO;
	*out = OPTION_AUTO;
	return true;
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

/* words: text of an option that begins with them, "auto|always|never: ...". */
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

/* ---- warnings ----------------------------------------------------------------------------- */

/*
 * A process that has warned leaves a hash of its settings in its environment, so that child
 * processes with the same settings do not repeat the warnings (man sluice.conf names exceptions).
 */
#define TOLD_NAME "SLUICE_TOLD"
static char told_entry[] = TOLD_NAME "=0123456789abcdef";
static bool silent; /* another process has warned, or this one will when it has an environment */
static bool said;

/* Source of a setting. */
struct place {
	const char *from;
	unsigned line; /* 0 if the source is no file */
	char *why;     /* where a warning goes instead of to standard error, or NULL */
	size_t room;
};

void options_say(const char *fmt, ...)
{
	char line[LINE_BYTES];
	va_list ap;

	if (silent)
		return;
	said = true;
	va_start(ap, fmt);
	log_vformat(line, sizeof(line), fmt, ap);
	va_end(ap);
	log_clean(line);
	log_warn("%s", line);
}

static const char *place_text(const struct place *at, char *buf, size_t len)
{
	log_format(buf, len, at->line ? "%s:%u" : "%s", at->from, at->line);
	return buf;
}

static void say_at(const struct place *at, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static void say_at(const struct place *at, const char *fmt, ...)
{
	char where[PLACE_BYTES];
	char text[LINE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	log_vformat(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (at->why) {
		log_format(at->why, at->room, "%s", text);
		return;
	}
	options_say("%s: %s", place_text(at, where, sizeof(where)), text);
}

/* Shortens a text that is too long. */
static const char *shown_text(const char *text, char *buf, size_t len)
{
	size_t n = log_format(buf, len, "%s", text);

	if (strlen(text) > n && len > 4)
		memcpy(buf + len - 4, "...", 4);
	return buf;
}

static char small_letter(char c)
{
	return c == '-' ? '_' : c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/*
 * Edit distance: the number of letters missing, extra or wrong, plus the number of adjacent letters
 * swapped. FAR for names longer than NAME_MAX_BYTES. Source: Damerau, 1964, in the restricted form.
 */
#define NAME_MAX_BYTES 31u
#define FAR 255u
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned row[3][NAME_MAX_BYTES + 1];

	if (a_len > NAME_MAX_BYTES || b_len > NAME_MAX_BYTES)
		return FAR;
	for (unsigned j = 0; j <= b_len; j++)
		row[0][j] = j;
	for (unsigned i = 1; i <= a_len; i++) {
		unsigned *now = row[i % 3];
		const unsigned *last = row[(i + 2) % 3];
		char c = small_letter(a[i - 1]);

		now[0] = i;
		for (unsigned j = 1; j <= b_len; j++) {
			unsigned d = last[j - 1] + (c != b[j - 1]);

			d = d < last[j] + 1 ? d : last[j] + 1;
			d = d < now[j - 1] + 1 ? d : now[j - 1] + 1;
			if (i > 1 && j > 1 && c == b[j - 2] && small_letter(a[i - 2]) == b[j - 1] &&
			    row[(i + 1) % 3][j - 2] + 1 < d)
				d = row[(i + 1) % 3][j - 2] + 1;
			now[j] = d;
		}
	}
	return row[a_len % 3][b_len];
}

/* Whether `name` was probably meant by `word` and is nearer than *best, which it then replaces. */
static bool is_nearer(const char *word, size_t len, const char *name, size_t name_len,
		      unsigned *best)
{
	unsigned d = distance(word, len, name, name_len);

	/* A prefix counts as near, too. */
	if (len >= 3 && len < name_len && memcmp(word, name, len) == 0)
		d = 2;
	if (d >= *best || d > 2 || 2 * d > len)
		return false;
	*best = d;
	return true;
}

static const char *name_meant(const char *word, size_t len)
{
	const char *name = NULL;
	unsigned best = FAR;

	for (size_t i = 0; i < ROWS; i++)
		if (is_nearer(word, len, rows[i].name, strlen(rows[i].name), &best))
			name = rows[i].name;
	return name;
}

/* Finds the nearest of the words that a text begins with. Returns its length, or 0 if none is
 * near. */
static size_t word_meant(const char *word, const char *words, const char **meant)
{
	unsigned best = FAR;
	size_t found = 0;

	for (;; words++) {
		size_t n = strcspn(words, "|:");

		if (is_nearer(word, strlen(word), words, n, &best)) {
			*meant = words;
			found = n;
		}
		words += n;
		if (*words != '|')
			return found;
	}
}

static size_t number_text(const struct option_row *row, uint64_t v, char *buf, size_t len)
{
	static const char *const unit_names[] = { "", "K", "M", "G", "T" };
	unsigned unit = 0;

	if (row->type == TYPE_LIMIT && (v & OPTION_PERCENT))
		return log_format(buf, len, "%lu%%", (unsigned long)(v & ~OPTION_PERCENT));
	if (row->type == TYPE_AUTO && v == OPTION_AUTO)
		return log_format(buf, len, "auto");
	for (; row->type != TYPE_UINT && v && v % 1024 == 0 && unit < 4; unit++)
		v /= 1024;
	return log_format(buf, len, "%lu%s", (unsigned long)v, unit_names[unit]);
}

/* The value of the option, as a setting would have it. */
static void value_text(const struct option_row *row, char *buf, size_t len)
{
	const char *field = (const char *)&options + row->offset;
	const char *words = row->text;
	uint64_t v;

	if (row->type == TYPE_STRING) {
		log_format(buf, len, *field ? "%s" : "empty", field);
		return;
	}
	memcpy(&v, field, sizeof(v));
	if (row->type == TYPE_BOOL) {
		log_format(buf, len, v ? "on" : "off");
	} else if (row->type == TYPE_ENUM) {
		while (v--)
			words += strcspn(words, "|:") + 1;
		log_format(buf, min_size(len, strcspn(words, "|:") + 1), "%s", words);
	} else {
		number_text(row, v, buf, len);
	}
}

/* The valid values. */
static void valid_text(const struct option_row *row, char *buf, size_t len)
{
	size_t n;

	if (row->type == TYPE_BOOL) {
		log_format(buf, len, "on or off");
		return;
	}
	if (row->type == TYPE_ENUM) {
		log_format(buf, min_size(len, strcspn(row->text, ":") + 1), "%s", row->text);
		return;
	}
	n = number_text(row, row->min, buf, len);
	n += log_format(buf + n, len - n, " to ");
	n += number_text(row, row->max, buf + n, len - n);
	if (row->type == TYPE_LIMIT || row->type == TYPE_AUTO)
		n += log_format(buf + n, len - n,
				row->type == TYPE_AUTO ? " or auto" : " or 0%% to %u%%",
				OPTION_PERCENT_MAX);
	if (row->type != TYPE_UINT && row->max >= 1024)
		log_format(buf + n, len - n, " (bytes; K, M, G or T may follow)");
}

static void warn_value(const struct option_row *row, const char *value, const struct place *at)
{
	char valid[TEXT_BYTES];
	char stays[TEXT_BYTES];
	char shown[SHOWN_BYTES];
	char guess[TEXT_BYTES] = "";
	const char *meant;
	size_t n = row->type == TYPE_ENUM ? word_meant(value, row->text, &meant) : 0;

	if (n) {
		size_t front = log_format(guess, sizeof(guess), "did you mean ");

		log_format(guess + front, n + 1, "%s", meant);
		log_format(guess + front + n, sizeof(guess) - front - n, "? ");
	}
	valid_text(row, valid, sizeof(valid));
	value_text(row, stays, sizeof(stays));
	say_at(at, "option %s: '%s' is not valid, %suse %s; it stays %s", row->name,
	       shown_text(value, shown, sizeof(shown)), guess, valid, stays);
}

static bool row_set(const struct option_row *row, const char *value, const struct place *at)
{
	char *field = (char *)&options + row->offset;
	char shown[SHOWN_BYTES];
	uint64_t v = 0;
	bool good = true;

	switch (row->type) {
	case TYPE_STRING:
		if (strlen(value) > row->max) {
			value_text(row, shown, sizeof(shown));
			say_at(at,
			       "option %s: the value is longer than %lu characters; it stays %s",
			       row->name, (unsigned long)row->max, shown);
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
		warn_value(row, value, at);
		return false;
	}
	memcpy(field, &v, sizeof(v));
	return true;
}

/* Applies the profile to the options that were not set by name. */
static void profile_apply(void)
{
	static const struct place here = { .from = "profile" };

	for (size_t i = 0; i < sizeof(profile_rows) / sizeof(profile_rows[0]); i++) {
		const struct option_row *row = row_find(profile_rows[i].option);
		const char *value = profile_rows[i].value[options.profile];

		if (given[row - rows])
			continue;
		if (value)
			row_set(row, value, &here);
		else
			memcpy((char *)&options + row->offset,
			       (const char *)&defaults + row->offset, sizeof(uint64_t));
	}
}

/* A setting without a colon. */
static void warn_form(const char *word, const struct place *at)
{
	char shown[SHOWN_BYTES];
	size_t n = strcspn(word, "= \t");
	const char *meant = name_meant(word, n);

	say_at(at, "'%s' is not of the form name:value%s%s%s",
	       shown_text(word, shown, sizeof(shown)), meant ? ", did you mean " : "",
	       meant ? meant : "", meant ? ":value?" : "");
}

static void warn_name(const char *word, const struct place *at)
{
	char shown[SHOWN_BYTES];
	const char *meant = name_meant(word, strlen(word));

	say_at(at, "there is no option '%s'%s%s%s (sluice-run --help lists them)",
	       shown_text(word, shown, sizeof(shown)), meant ? ", did you mean " : "",
	       meant ? meant : "", meant ? "?" : "");
}

static bool setting_apply(char *word, const struct place *at)
{
	char *colon = strchr(word, ':');
	const struct option_row *row;

	if (!colon || colon == word) {
		warn_form(word, at);
		return false;
	}
	*colon = '\0';
	row = row_find(word);
	if (!row) {
		warn_name(word, at);
		return false;
	}
	if (!row_set(row, colon + 1, at))
		return false;
	given[row - rows] = true;
	if (strcmp(row->name, "profile") == 0)
		profile_apply();
	return true;
}

bool options_given(const char *name)
{
	return given[row_find(name) - rows];
}

bool options_default(const char *name, const char *value, const char *from)
{
	const struct place at = { .from = from };
	const struct option_row *row = row_find(name);

	return options_given(name) || row_set(row, value, &at);
}

bool options_change(const char *name, const char *value, char *why, size_t room)
{
	const struct place at = { .from = "", .why = why, .room = room };
	const struct option_row *row = row_find(name);

	if (!row)
		warn_name(name, &at);
	else if (row->when != WHEN_any)
		say_at(&at, "option %s: it is read at the start only", row->name);
	return row && row->when == WHEN_any && row_set(row, value, &at);
}

bool options_show(const char *name, char *buf, size_t room)
{
	const struct place at = { .from = "", .why = buf, .room = room };
	const struct option_row *row = row_find(name);

	if (row)
		value_text(row, buf, room);
	else
		warn_name(name, &at);
	return row != NULL;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Moves *text past white space, separators and comments ('#' at the start of a word, to the end of
 * the line) and returns the length of the setting there, or 0 at the end. */
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
	struct place at = { .from = from, .line = strchr(from, '/') ? 1 : 0 };
	const char *seen = text;
	char word[WORD_BYTES];
	unsigned refused = 0;
	size_t len;

	for (; (len = setting_next(&text)) != 0; text += len) {
		for (; at.line && seen < text; seen++)
			at.line += *seen == '\n';
		if (len >= sizeof(word)) {
			say_at(&at, "a setting is longer than %u characters", WORD_BYTES - 1);
			refused++;
			continue;
		}
		memcpy(word, text, len);
		word[len] = '\0';
		refused += !setting_apply(word, &at);
	}
	return refused;
}

/* ---- the start ------------------------------------------------------------------------------ */

/* Hash of what was read: a process that reads the same has nothing new to warn of. FNV-1a. */
static uint64_t sum_of(uint64_t sum, const char *text)
{
	for (; *text; text++)
		sum = (sum ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	return sum * UINT64_C(0x100000001b3);
}

static void told_set(uint64_t sum)
{
	for (size_t i = sizeof(told_entry) - 1; i-- > sizeof(TOLD_NAME); sum >>= 4)
		told_entry[i] = "0123456789abcdef"[sum & 15];
}

/* Reads the file, or an empty text if there is none. Returns false, with *err, if it is not
 * readable. */
static bool read_file(char *text, size_t len, int *err)
{
	struct stat st;
	ssize_t n = -1;
	int fd;

	*text = '\0';
	*err = 0;
	errno = 0;
	fd = sys_open(CONF_FILE, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0) {
		*err = errno == ENOENT || errno == ENOTDIR ? 0 : errno;
		return *err == 0;
	}
	if (sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		n = sys_read(fd, text, len - 1);
	*err = n < 0 ? errno : 0;
	sys_close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

static void load_file(const char *text, bool good, int err)
{
	if (!good)
		options_say("%s: it is not read: %s", CONF_FILE,
			    err ? log_error(err) : "it is no regular file");
	if (strlen(text) == CONF_FILE_BYTES - 1)
		options_say("%s: only its first %u bytes are read", CONF_FILE, CONF_FILE_BYTES - 1);
	options_parse(text, CONF_FILE);
}

/* Opens the file as stats_append will at exit, to warn at the start, and once, if that fails. */
static void try_stats_file(void)
{
	int fd;

	if (!options.stats_file[0])
		return;
	fd = sys_open(options.stats_file, STATS_FILE_FLAGS, STATS_FILE_MODE);
	if (fd < 0 || log_write(fd, "", 0, 0) < 0)
		options_say("option stats_file: '%s' cannot be written: %s", options.stats_file,
			    log_error(errno));
	if (fd >= 0)
		sys_close(fd);
}

bool options_load(void)
{
	int saved = errno;
	bool secure = sys_auxval(AT_SECURE) != 0;
	const char *conf = environ && !secure ? getenv("SLUICE_CONF") : NULL;
	const char *told = environ && !secure ? getenv(TOLD_NAME) : NULL;
	/* Static, because the stack may be small. Only one thread is here at a time. */
	static char text[CONF_FILE_BYTES];
	int err;
	bool good = read_file(text, sizeof(text), &err);

	told_set(sum_of(sum_of(UINT64_C(0xcbf29ce484222325), text), conf ? conf : ""));
	silent = !environ || (told && strcmp(told, told_entry + sizeof(TOLD_NAME)) == 0);
	load_file(text, good, err);
	if (conf)
		options_parse(conf, "SLUICE_CONF");
	if (environ)
		try_stats_file();
	fatal_backtrace = options.backtrace != 0;
	DELAY_LOAD();
	errno = saved;
	return environ != NULL;
}

char *options_told(void)
{
	return said ? told_entry : NULL;
}
