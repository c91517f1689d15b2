/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The options: bounds, bad input, the syntax of SLUICE_CONF and of the file.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/child.h"
#include "base/log.h"
#include "base/options.h"
#include "lib/tap.h"

enum type { TYPE_BOOL, TYPE_UINT, TYPE_SIZE, TYPE_LIMIT, TYPE_AUTO, TYPE_STRING, TYPE_ENUM };

struct row {
	const char *name;
	enum type type;
	uint64_t def_bits; /* numbers only */
	uint64_t min;
	uint64_t max;
	void *field;
};

/* A string's default is checked elsewhere: (default) may be a string here. */
#define DEF_BOOL(def) (def)
#define DEF_UINT(def) (def)
#define DEF_SIZE(def) (def)
#define DEF_LIMIT(def) (def)
#define DEF_AUTO(def) (def)
#define DEF_ENUM(def) (def)
#define DEF_STRING(def) 0

static const struct row rows[] = {
#define OPT(name, type, def, min, max, when, text)                                                 \
	{ #name, TYPE_##type, DEF_##type(def), (min), (max), &options.name },
#include "base/options.def"
#undef OPT
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

static struct options defaults;

/* struct options has padding. */
static bool is_changed(void)
{
	return false
#define OPT(name, type, def, min, max, when, text)                                                 \
	|| memcmp(&options.name, &defaults.name, sizeof(options.name)) != 0
#include "base/options.def"
#undef OPT
		;
}

static void back_to_defaults(void)
{
	options = defaults;
}

static uint64_t number(const struct row *r)
{
	uint64_t v;

	memcpy(&v, r->field, sizeof(v));
	return v;
}

/* ---- in a child, so that its standard error can be read ------------------------------------- */

struct parse {
	const char *text;
	unsigned refused; /* expected */
	bool changes;     /* whether options are expected to differ from their defaults
			   * afterwards */
};

struct from_text {
	const char *text;
	const char *from;
};

static void parse_from(void *arg)
{
	const struct from_text *f = arg;

	if (options_parse(f->text, f->from) != 1)
		_exit(3);
}

static void parse_in_child(void *arg)
{
	const struct parse *p = arg;

	if (options_parse(p->text, "the test") != p->refused)
		_exit(3);
	if (is_changed() != p->changes)
		_exit(4);
}

/* Returns how many lines parsing writes, or -1 if it did not do what was expected. */
static int lines_of(const char *text, unsigned refused, bool changes, struct child *c)
{
	struct parse p = { text, refused, changes };
	int lines = 0;

	back_to_defaults();
	child_run(c, parse_in_child, &p);
	if (c->status != 0) {
		tap_diag("'%s': status 0x%x, standard error: %s", text, (unsigned)c->status,
			 c->stderr);
		return -1;
	}
	for (const char *s = c->stderr; (s = strchr(s, '\n')) != NULL; s++)
		lines++;
	return lines;
}

/* A bad setting gives one line that begins with our name and names the culprit, and changes no
 * option. */
static bool refused(const char *text, const char *culprit)
{
	struct child c;

	if (lines_of(text, 1, false, &c) == 1 && strncmp(c.stderr, "sluice: the test: ", 18) == 0 &&
	    strstr(c.stderr, culprit))
		return true;
	tap_diag("'%s' gave: %s", text, c.stderr);
	return false;
}

static bool silent(const char *text, bool changes)
{
	struct child c;

	return lines_of(text, 0, changes, &c) == 0;
}

/* ---- the rows ------------------------------------------------------------------------------- */

static void test_defaults(void)
{
	unsigned bad = 0;

	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		if (r->type == TYPE_STRING)
			bad += strlen(r->field) > r->max;
		else if ((r->type == TYPE_LIMIT && (r->def_bits & OPTION_PERCENT)) ||
			 (r->type == TYPE_AUTO && r->def_bits == OPTION_AUTO))
			bad += number(r) != r->def_bits;
		else
			bad += number(r) != r->def_bits || r->def_bits < r->min ||
			       r->def_bits > r->max;
	}
	is_int(bad, 0, "each option has its default, which is within its bounds");
}

static bool accepts(const struct row *r, uint64_t v)
{
	char text[128];
	bool good;

	back_to_defaults();
	snprintf(text, sizeof(text), "%s:%" PRIu64, r->name, v);
	good = options_parse(text, "the test") == 0 && number(r) == v;
	back_to_defaults();
	if (!good)
		tap_diag("%s is not accepted", text);
	return good;
}

static bool refuses(const struct row *r, uint64_t v)
{
	char text[128];

	snprintf(text, sizeof(text), "%s:%" PRIu64, r->name, v);
	return refused(text, r->name);
}

static void test_bounds(void)
{
	bool inside = true;
	bool outside = true;

	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		if (r->type != TYPE_UINT && r->type != TYPE_SIZE && r->type != TYPE_LIMIT &&
		    r->type != TYPE_AUTO && r->type != TYPE_BOOL)
			continue;
		inside &= accepts(r, r->min) && accepts(r, r->max);
		outside &= refuses(r, r->max + 1);
		if (r->min)
			outside &= refuses(r, r->min - 1);
	}
	ok(inside, "each number can be set to both its bounds");
	ok(outside, "a number beyond them is refused with one line that names the option");
}

static void test_strings(void)
{
	static char text[400] = "stats_file:";

	memset(text + 11, 'x', 255);
	back_to_defaults();
	is_int(options_parse(text, "the test"), 0, "a string can have 255 characters");
	is_int(strlen(options.stats_file), 255, "all 255 characters of a string are kept");
	text[11 + 255] = 'x';
	ok(refused(text, "stats_file"), "a string of 256 characters is refused");
	memset(text + 11, 'x', 380);
	ok(refused(text, ""), "a string of many more characters is refused");
	back_to_defaults();
	options_parse("stats_file:/tmp/a:b", "the test");
	ok(strcmp(options.stats_file, "/tmp/a:b") == 0, "a string may have colons");
	back_to_defaults();
}

static void test_words(void)
{
	back_to_defaults();
	is_int(options_parse("background:never", "the test"), 0, "a word is accepted");
	is_int(options.background, BACKGROUND_NEVER, "a word stands for its number");
	options_parse("background:always", "the test");
	is_int(options.background, BACKGROUND_ALWAYS, "each word stands for its own number");
	back_to_defaults();
	ok(refused("background:sometimes", "background"), "an unknown word is refused");
	ok(refused("background:alway", "background"), "a part of a word is refused");
	ok(refused("background:auto|always", "background"), "more than one word is refused");
}

/* ---- values --------------------------------------------------------------------------------- */

/* Returns the option's value when set to `value`, or UINT64_MAX if that was refused. */
static uint64_t value_of(const char *name, const uint64_t *option, const char *value)
{
	char text[64];
	uint64_t v;

	back_to_defaults();
	snprintf(text, sizeof(text), "%s:%s", name, value);
	if (options_parse(text, "the test") != 0)
		return UINT64_MAX;
	v = *option;
	back_to_defaults();
	return v;
}

static uint64_t dirty_max_of(const char *value)
{
	return value_of("dirty_max", &options.dirty_max, value);
}

static void test_units(void)
{
	is_int(dirty_max_of("12345"), 12345, "a size is a number of bytes");
	is_int(dirty_max_of("3K"), 3 << 10, "a size may be given in K");
	is_int(dirty_max_of("3M"), 3 << 20, "a size may be given in M");
	is_int(dirty_max_of("3G"), INT64_C(3) << 30, "a size may be given in G");
	is_int(value_of("soft_limit", &options.soft_limit, "10T"), INT64_C(10) << 40,
	       "a size may be given in T");
	ok(dirty_max_of("3k") == 3 << 10 && dirty_max_of("3m") == 3 << 20 &&
		   dirty_max_of("3g") == UINT64_C(3) << 30,
	   "units of a size may be in small letters");
	ok(dirty_max_of("3KiB") == 3 << 10 && dirty_max_of("3MB") == 3 << 20,
	   "units of a size may be longer words");
}

static void test_bad_values(void)
{
	static const char *const values[] = {
		"",
		"x",
		"-1",
		"+1",
		"1x",
		"1KK",
		"2T",
		"1TT",
		"1 K",
		"1 B",
		"1B",
		"1 iB",
		"1\tM",
		"1\001B",
		"1kib",
		"16777216T",
		"18446744073709551615",
		"0x10",
		"1.5M",
		"18446744073709551616",
		"99999999999999999999999G",
		"18014398509481984K",
		"K",
	};
	bool all = true;

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "dirty_max:%s", values[i]);
		all &= refused(text, "dirty_max");
	}
	ok(all, "what is no size is refused with one line, and the default stays");
	ok(refused("idle_ms:2K", "idle_ms"), "a plain number has no unit");
	ok(refused("backtrace:2", "backtrace") && refused("backtrace:maybe", "backtrace"),
	   "a switch is on or off");
}

static uint64_t cache_limit_of(const char *value)
{
	return value_of("cache_limit", &options.cache_limit, value);
}

static void test_limits(void)
{
	static const char *const bad[] = { "%",
					   "-1%",
					   "1001%",
					   "99999999999999999999%",
					   "5%%",
					   "5 %",
					   "5M%",
					   "1.5%",
					   "",
					   "9223372036854785808",
					   "9223372036854775833" };
	bool all = true;

	is_int(cache_limit_of("3M"), 3 << 20, "a limit is a size");
	is_int(cache_limit_of("25%") & ~OPTION_PERCENT, 25, "a limit may be a percentage");
	ok(cache_limit_of("25%") & OPTION_PERCENT && !(cache_limit_of("25") & OPTION_PERCENT),
	   "a percentage differs from the same number of bytes");
	ok(cache_limit_of("0%") == OPTION_PERCENT && cache_limit_of("1000%") != UINT64_MAX,
	   "a percentage is at most 1000");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "cache_limit:%s", bad[i]);
		all &= refused(text,
			       "use 0 to 16T or 0% to 1000% (bytes; K, M, G or T may follow); "
			       "it stays 0");
	}
	ok(all,
	   "what is neither size nor percentage is refused with one line that says what is valid");
}

static bool backtrace_is(const char *value, uint64_t want)
{
	char text[64];
	bool good;

	back_to_defaults();
	options.backtrace = !want;
	snprintf(text, sizeof(text), "backtrace:%s", value);
	good = options_parse(text, "the test") == 0 && options.backtrace == want;
	back_to_defaults();
	return good;
}

static void test_switches(void)
{
	ok(backtrace_is("1", 1) && backtrace_is("true", 1) && backtrace_is("yes", 1) &&
		   backtrace_is("on", 1),
	   "1, true, yes and on turn a switch on");
	ok(backtrace_is("0", 0) && backtrace_is("false", 0) && backtrace_is("no", 0) &&
		   backtrace_is("off", 0),
	   "0, false, no and off turn a switch off");
}

/* ---- syntax --------------------------------------------------------------------------------- */

static void test_names(void)
{
	ok(refused("no_such_option:1", "no_such_option"), "an unknown name is refused");
	ok(refused("dirty_ma:1M", "dirty_ma"), "a part of a name is refused");
	ok(refused("dirty_max", "dirty_max"), "a name without a value is refused");
	ok(refused("dirty_max=1M", "dirty_max"),
	   "a name with another sign than a colon is refused");
	ok(refused(":1M", ":1M"), "a value without a name is refused");
	ok(refused("DIRTY_MAX:1M", "DIRTY_MAX"), "a name in capital letters is refused");
}

static void test_lists(void)
{
	struct child c;

	ok(silent("", false) && silent(" , ,\n,", false), "empty settings are no mistake");
	ok(silent("dirty_max:1M,idle_ms:50", true), "settings are separated by commas");
	ok(silent(" dirty_max:1M ,\tidle_ms:50\r\n\n", true),
	   "spaces around settings do not matter");
	back_to_defaults();
	options_parse("dirty_max:1M,idle_ms:50,dirty_max:2M\nbackground:never", "the test");
	ok(options.dirty_max == 2 << 20 && options.idle_ms == 50 &&
		   options.background == BACKGROUND_NEVER,
	   "all settings take effect, the last of each name wins");
	is_int(lines_of("x:1,dirty_max:1M,y:2,idle_ms:z", 3, true, &c), 3,
	       "each bad setting gets a line of its own, and the good ones take effect");
	back_to_defaults();
}

static void test_comments(void)
{
	back_to_defaults();
	ok(silent("# a comment\n#another one\n  # and one more\n", false), "comments are ignored");
	ok(silent("# dirty_max:1M\n", false), "a setting in a comment has no effect");
	ok(silent("# one, two, dirty_max:1M\n", false), "a comment goes to the end of its line");
	ok(silent("# one\ndirty_max:1M\n", true), "the line after a comment counts");
	ok(silent("dirty_max:1M # as much as that\n", true), "a comment may follow a setting");
	back_to_defaults();
	options_parse("stats_file:/tmp/a#b\n", "/etc/sluice.conf");
	ok(strcmp(options.stats_file, "/tmp/a#b") == 0, "a comment needs a space before it");
	back_to_defaults();
}

/* ---- what is said --------------------------------------------------------------------------- */

static bool says(const char *text, const char *from, const char *line)
{
	char want[256];
	struct child c;
	struct from_text f = { text, from };

	back_to_defaults();
	child_run(&c, parse_from, &f);
	snprintf(want, sizeof(want), "sluice: %s\n", line);
	if (c.status == 0 && strcmp(c.stderr, want) == 0)
		return true;
	tap_diag("'%s' says: %s", text, c.stderr);
	return false;
}

static void test_lines(void)
{
	const char *env = "SLUICE_CONF";
	const char *file = "/etc/sluice.conf";

	ok(says("dirty_mx:1M", env,
		"SLUICE_CONF: there is no option 'dirty_mx', did you mean dirty_max? (sluice-run "
		"--help "
		"lists them)"),
	   "the line for an unknown name suggests a similar one");
	ok(says("xyzzy:1", env,
		"SLUICE_CONF: there is no option 'xyzzy' (sluice-run --help lists them)"),
	   "the line for an unknown name suggests nothing if none is similar");
	ok(says("ditry-MAX:1M", env,
		"SLUICE_CONF: there is no option 'ditry-MAX', did you mean dirty_max? (sluice-run "
		"--help lists them)"),
	   "the line suggests a name for swapped letters, wrong capitals and a dash");
	ok(says("idle_ms=5", env,
		"SLUICE_CONF: 'idle_ms=5' is not of the form name:value, did you mean "
		"idle_ms:value?"),
	   "the line for a setting without a colon shows the form");
	ok(says("background:alwys", env,
		"SLUICE_CONF: option background: 'alwys' is not valid, did you mean always? use "
		"auto|always|never; it stays auto"),
	   "the line for a bad word lists the valid ones, suggests one and says which one stays");
	ok(says("thp:always, thp:alwais", env,
		"SLUICE_CONF: option thp: 'alwais' is not valid, did you mean always? use "
		"system|never|auto|always|reserve; it stays always"),
	   "the line suggests a word for a setting that is not the first");
	ok(says("0123456789012345678901234567890123456789012345678901234567890123456789:1", env,
		"SLUICE_CONF: there is no option '01234567890123456789012345678901234567890123456"
		"78901234567890123...' "
		"(sluice-run --help lists them)"),
	   "the line for a long name shows its beginning");
	ok(says("backtrace:5", env,
		"SLUICE_CONF: option backtrace: '5' is not valid, use on or off; it stays on"),
	   "the line for a bad switch says on or off");
	ok(says("# one\nidle_ms:77\n\n  dirty_max:1 B, cgroup:1\n", file,
		"/etc/sluice.conf:4: option dirty_max: '1 B' is not valid, use 0 to 1T (bytes; K, "
		"M, G "
		"or T may follow); it stays 64M"),
	   "the line for a file's setting has the line number");
	ok(says("idle_ms:77,idle_ms:5\n", file,
		"/etc/sluice.conf:1: option idle_ms: '5' is not valid, use 10 to 3600000; it "
		"stays 77"),
	   "the line for a bad value says which value was set before and stays");
	ok(says("low:5000%", env,
		"SLUICE_CONF: option low: '5000%' is not valid, use 0 to 1T or 0% to "
		"1000% (bytes; K, "
		"M, G or T may follow); it stays 75%"),
	   "the line for a percentage shows percentages");
	ok(says("a\033[2Jb:1", env,
		"SLUICE_CONF: there is no option 'a?[2Jb' (sluice-run --help lists them)"),
	   "the line contains no control characters");
}

/* ---- profiles ------------------------------------------------------------------------------- */

/* Sets options by two texts, the first as from a file, the second from the environment. */
static bool leaves(const char *first, const char *second, uint64_t reserve, uint64_t idle_ms,
		   uint64_t decay_ms)
{
	bool good = options_parse(first, "a file") == 0 &&
		    options_parse(second, "SLUICE_CONF") == 0;

	good &= options.reserve == reserve && options.idle_ms == idle_ms &&
		options.decay_ms == decay_ms;
	if (!good)
		tap_diag("'%s', '%s': reserve %" PRIu64 ", idle_ms %" PRIu64 ", decay_ms %" PRIu64,
			 first, second, options.reserve, options.idle_ms, options.decay_ms);
	return good;
}

#define MIB ((uint64_t)1 << 20)

static void profile_alone(void *arg)
{
	(void)arg;
	_exit(!leaves("profile:latency", "", 32 * MIB, 60000, 10000));
}

static void profile_beside(void *arg)
{
	(void)arg;
	_exit(!leaves("idle_ms:77,profile:latency,decay_ms:88", "", 32 * MIB, 77, 88));
}

static void profile_later(void *arg)
{
	(void)arg;
	_exit(!leaves("idle_ms:77", "profile:memory", 0, 77, 100));
}

static void profile_replaced(void *arg)
{
	(void)arg;
	_exit(!leaves("profile:latency,reserve:auto", "profile:balanced", OPTION_AUTO, 1000, 1000));
}

static void profile_balanced(void *arg)
{
	(void)arg;
	if (options_parse("profile:latency,profile:balanced", "the test") != 0)
		_exit(1);
	_exit(is_changed());
}

static void profile_hardened(void *arg)
{
	(void)arg;
	if (options_parse("canary:off,profile:hardened", "the test") != 0)
		_exit(1);
	_exit(options.check != CHECK_FULL || options.canary || !options.zero_on_free ||
	      options.quarantine != 256 << 10 || options.clear_rate != 1 << 20 || options.reserve);
}

static void profile_bad(void *arg)
{
	(void)arg;
	_exit(options_parse("profile:latency,idle_ms:x", "the test") != 1 ||
	      options.idle_ms != 60000);
}

/* Runs before the others, because what was once set by its own name stays so in this process. */
static void test_profiles(void)
{
	ok(child_is_well(profile_alone, NULL), "a profile sets its group of options");
	ok(child_is_well(profile_beside, NULL),
	   "options set by name win, before a profile and after it");
	ok(child_is_well(profile_later, NULL),
	   "options set by name in a file win over a profile in the environment");
	ok(child_is_well(profile_replaced, NULL),
	   "the last profile counts and undoes what an earlier one set");
	ok(child_is_well(profile_balanced, NULL), "profile:balanced sets the defaults");
	ok(child_is_well(profile_hardened, NULL),
	   "profile:hardened sets its group, except what was set by name");
	ok(child_is_well(profile_bad, NULL), "a bad value beside a profile does not count as set");
}

static void test_autos(void)
{
	ok(silent("reserve:auto", true) &&
		   value_of("reserve", &options.reserve, "auto") == OPTION_AUTO,
	   "a size may be the word auto");
	is_int(value_of("reserve", &options.reserve, "3M"), 3 << 20,
	       "a size that may be auto may be in bytes");
	ok(refused("reserve:aut",
		   "use 0 to 1T or auto (bytes; K, M, G or T may follow); it stays 0") &&
		   refused("reserve:10%", "reserve") && refused("reserve:", "reserve") &&
		   refused("reserve:18446744073709551615", "reserve"),
	   "what is neither size nor auto is refused with one line that says what is valid");
}

int main(void)
{
	tap_plan(70);
	options.early_checks = 1; /* the defaults, which tap.c takes away */
	options.early_guards = 8;
	options.random_base = 1;
	defaults = options;
	test_profiles();
	test_defaults();
	test_bounds();
	test_strings();
	test_words();
	test_units();
	test_bad_values();
	test_limits();
	test_autos();
	test_switches();
	test_names();
	test_lists();
	test_comments();
	test_lines();
	return tap_done();
}
