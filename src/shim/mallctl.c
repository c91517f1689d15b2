/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mallctl.c - finds a name of jemalloc's mallctl, and passes values in and out. The names and what
 * they do are in mallctl.def and mallctl_rows.c. Used by the program.
 *
 * A mib is a name as numbers, one for each part. Here the number of a word is the row where the
 * names begin that start like this one; an index stands for itself. So the last word of a whole
 * name is its row.
 * No lock, allocates nothing.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "shim/mallctl.h"

#include <errno.h>
#include <string.h>
#include <sys/types.h>

#include "base/export.h"
#include "shim/jemalloc.h"

const char *ctl_part(const char *name, unsigned i, size_t *len)
{
	for (; i; i--) {
		name += strcspn(name, ".");
		if (!*name++)
			return NULL;
	}
	*len = strcspn(name, ".");
	return name;
}

static bool is_word(const char *part, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(part, word, len) == 0;
}

size_t ctl_index_count(const char *part, size_t len)
{
	if (is_word(part, len, "bin") || is_word(part, len, "bins"))
		return CLASSES;
	if (is_word(part, len, "lextent") || is_word(part, len, "lextents"))
		return CTL_LEXTENTS;
	return ctl_arenas();
}

/* The index of an arena may also be their number, as before jemalloc 5, or stand for all. */
static bool index_is_valid(const char *part, size_t len, size_t index)
{
	size_t count = ctl_index_count(part, len);
	bool arena = is_word(part, len, "arena") || is_word(part, len, "arenas");

	return index < count || (arena && (index == count || index == MALLCTL_ARENAS_ALL));
}

/* A decimal number. */
static bool index_read(const char *part, size_t len, size_t *index)
{
	*index = 0;
	for (size_t i = 0; i < len; i++) {
		if (part[i] < '0' || part[i] > '9' || *index > SIZE_MAX / 16)
			return false;
		*index = *index * 10 + (size_t)(part[i] - '0');
	}
	return len != 0;
}

static bool row_begins(unsigned row, unsigned i, const char *part, size_t len, size_t *index)
{
	size_t n;
	size_t before = 0;
	const char *own = ctl_part(ctl_rows[row].name, i, &n);
	const char *last;

	if (!own)
		return false;
	if (n == 1 && *own == '%') {
		last = ctl_part(ctl_rows[row].name, i - 1, &before);
		return index_read(part, len, index) && index_is_valid(last, before, *index);
	}
	*index = row;
	return n == len && memcmp(own, part, len) == 0;
}

/* Whether the names of two rows have the same first parts, i of them. Row a has as many. */
static bool same_parts(unsigned a, unsigned b, unsigned i)
{
	size_t len = 0;
	const char *name = ctl_rows[a].name;
	const char *other = ctl_rows[b].name;
	const char *last = ctl_part(name, i - 1, &len);
	size_t same = (size_t)(last - name) + len;

	return strncmp(other, name, same) == 0 && (!other[same] || other[same] == '.');
}

unsigned ctl_rows_end(unsigned row, unsigned i)
{
	unsigned end = row + 1;

	while (end < ctl_rows_count && same_parts(row, end, i))
		end++;
	return end;
}

/* Fills in the mib of the first parts of a name, *mib_len at most. */
static int find_mib(const char *name, size_t *mib, size_t *mib_len)
{
	unsigned row = 0;
	unsigned end = ctl_rows_count;
	unsigned n = 0;

	for (; n < *mib_len; n++) {
		size_t len = 0;
		const char *part = ctl_part(name, n, &len);

		if (!part)
			break;
		while (row < end && !row_begins(row, n, part, len, &mib[n]))
			row++;
		if (row == end)
			return ENOENT;
		end = ctl_rows_end(row, n + 1);
	}
	*mib_len = n;
	return n ? 0 : ENOENT;
}

/* Whether a word of a mib is what find_mib gives for the first parts of a row, i of them. */
static bool word_is(size_t word, unsigned row, unsigned i)
{
	return word <= row && same_parts(row, (unsigned)word, i) &&
	       (word == 0 || !same_parts(row, (unsigned)word - 1, i));
}

/* The row of a whole name, and its indices. Returns NULL if there is none. */
static const struct ctl_row *find_row(const size_t *mib, size_t mib_len, struct ctl_at *at)
{
	unsigned row;
	const char *last = NULL;
	size_t last_len = 0;
	unsigned indices = 0;

	memset(at, 0, sizeof(*at));
	if (mib_len == 0 || mib_len > CTL_PARTS || mib[mib_len - 1] >= ctl_rows_count)
		return NULL;
	row = (unsigned)mib[mib_len - 1];
	for (unsigned i = 0; i < mib_len; i++) {
		size_t len;
		const char *part = ctl_part(ctl_rows[row].name, i, &len);

		if (!part)
			return NULL;
		if (len == 1 && *part == '%') {
			/* A name ends with a word. */
			if (i + 1 == mib_len || !last || !index_is_valid(last, last_len, mib[i]))
				return NULL;
			at->index[indices++] = mib[i];
		} else if (!word_is(mib[i], row, i + 1)) {
			return NULL;
		}
		last = part;
		last_len = len;
	}
	return last[last_len] ? NULL : &ctl_rows[row]; /* the name goes on */
}

static size_t type_bytes(enum ctl_type type)
{
	static const size_t bytes[] = {
		[CTL_VOID] = 0,
		[CTL_BOOL] = sizeof(bool),
		[CTL_UNSIGNED] = sizeof(unsigned),
		[CTL_U32] = sizeof(uint32_t),
		[CTL_SIZE] = sizeof(size_t),
		[CTL_SSIZE] = sizeof(ssize_t),
		[CTL_U64] = sizeof(uint64_t),
		[CTL_S64] = sizeof(int64_t),
		[CTL_STRING] = sizeof(const char *),
	};

	return bytes[type];
}

/* What the program passes has no alignment that we know of. */
union value {
	bool b;
	uint32_t u32;
	uint64_t u64;
};

static union value value_of(enum ctl_type type, uint64_t n)
{
	union value v = { .u64 = 0 };

	if (type_bytes(type) == sizeof(bool))
		v.b = n != 0;
	else if (type_bytes(type) == sizeof(uint32_t))
		v.u32 = (uint32_t)n;
	else
		v.u64 = n;
	return v;
}

static uint64_t number_of(enum ctl_type type, const void *data)
{
	union value v = { .u64 = 0 };

	memcpy(&v, data, type_bytes(type));
	if (type_bytes(type) == sizeof(bool))
		return v.b;
	return type_bytes(type) == sizeof(uint32_t) ? v.u32 : v.u64;
}

/* Reads as much as fits; a length that is not the value's is an error, as in jemalloc. */
static int read_value(const struct ctl_row *row, const struct ctl_at *at, void *old,
		      size_t *old_len)
{
	size_t bytes = type_bytes(row->type);
	union value v = value_of(row->type, row->get(at));
	int err = *old_len != bytes ? EINVAL : 0;

	*old_len = min_size(*old_len, bytes);
	memcpy(old, &v, *old_len);
	return err;
}

/* Nothing is made unless its number can be read. */
static int create(const struct ctl_row *row, const struct ctl_at *at, void *old, size_t *old_len,
		  const struct ctl_new *new)
{
	int err = 0;

	if (!old || !old_len || *old_len != type_bytes(row->type))
		return EINVAL;
	if (row->set)
		err = row->set(new);
	return err ? err : read_value(row, at, old, old_len);
}

/* As in jemalloc: what is read is the value before the call changes it, except with `renews`. An
 * error in what is read, or in the length of the new value, leaves all as it was. */
static int call(const struct ctl_row *row, const struct ctl_at *at, void *old, size_t *old_len,
		const void *data, size_t data_len)
{
	size_t bytes = type_bytes(row->type);
	bool reads = old && old_len;
	struct ctl_new new = { data, data_len, 0 };
	int err = 0;

	if ((data && !row->set) || (reads && !row->get) ||
	    (!row->get && !data != !bytes && !row->defaults))
		return EPERM;
	if (row->creates)
		return create(row, at, old, old_len, &new);
	if (data && data_len != bytes)
		return EINVAL;
	if (data)
		new.value = number_of(row->type, data);
	if (reads && !row->renews)
		err = read_value(row, at, old, old_len);
	if (!err && (data || !row->get))
		err = row->set(&new);
	if (!err && reads && row->renews)
		err = read_value(row, at, old, old_len);
	return err;
}

EXPORT int mallctlnametomib(const char *name, size_t *mib, size_t *mib_len)
{
	return find_mib(name, mib, mib_len);
}

EXPORT int mallctlbymib(const size_t *mib, size_t mib_len, void *old, size_t *old_len, void *new,
			size_t new_len)
{
	struct ctl_at at;
	const struct ctl_row *row = find_row(mib, mib_len, &at);

	return row ? call(row, &at, old, old_len, new, new_len) : ENOENT;
}

EXPORT int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
{
	size_t mib[CTL_PARTS] = { 0 };
	size_t mib_len = CTL_PARTS;
	struct ctl_at at;
	const struct ctl_row *row;

	if (find_mib(name, mib, &mib_len))
		return ENOENT;
	row = find_row(mib, mib_len, &at);
	return row ? call(row, &at, old, old_len, new, new_len) : ENOENT;
}

SAME(int, je_mallctl, mallctl, const char *, void *, size_t *, void *, size_t);
SAME(int, je_mallctlnametomib, mallctlnametomib, const char *, size_t *, size_t *);
SAME(int, je_mallctlbymib, mallctlbymib, const size_t *, size_t, void *, size_t *, void *, size_t);
