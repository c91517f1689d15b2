/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * unwind.c - see unwind.h. Primitive; used by stack.
 *
 * libgcc's unwinder executes 1,600 instructions for a frame: it finds the frame's description
 * (FDE), and executes its program for all registers. A walk over a stack needs two of them, and
 * almost all frames say the same: where the return address lies as seen from the stack pointer or
 * from rbp, and whether rbp is saved. Such a rule fits a word, and is kept by its address.
 *
 * (A) A kept rule counts only for the description that it was read from. A library that was loaded
 *     where another one was has other tables. So each use looks up the module (_dl_find_object,
 *     without a lock), checks that its table leads to this description, and compares a sum of what
 *     the description says.
 * (B) A place holds the rule, and the key xor the rule. A place that two threads write at once has
 *     neither key, and is a miss.
 * (C) What does not fit a rule - frames of signal handlers, realigned stacks, tables of another
 *     kind - is the caller's to give to libgcc's unwinder.
 *
 * No lock; any thread, signal handlers, fork. Allocates nothing. Bound: `most` frames; of a miss,
 * the lengths CIE_MAX and FDE_MAX.
 * Source: DWARF 4, 6.4; Linux Standard Base, 10.6 (.eh_frame, .eh_frame_hdr).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "base/unwind.h"

#if defined(__x86_64__) && defined(UNWINDER_WRAPPED)

#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

#include "types.h"

#define PLACES 2048u
#define CIE_MAX 64u
#define FDE_MAX 512u
#define HDR_KIND 0x3b031b01u /* version 1, sdata4 by pc; udata4; sdata4 by the header's address */
#define PC_BY_PC 0x1b
#define REG_BP 6u
#define REG_SP 7u
#define REG_RA 16u
#define SAVED_STATES 4u
#define OFFSET_BITS 28u
#define OFFSET_MAX (((uint64_t)1 << OFFSET_BITS) - 1)

enum rule_kind { RULE_NONE, RULE_END, RULE_SP, RULE_BP };

struct place {
	_Atomic uint64_t rule;
	_Atomic uint64_t key; /* xor rule */
	_Atomic uint32_t row; /* of the table where the description was found */
};

static struct place places[PLACES];

/* ---- the program of a description ------------------------------------------------------------ */

struct bytes {
	const uint8_t *p;
	const uint8_t *end;
	bool bad; /* something that no rule says, or the end */
};

static uint64_t get(struct bytes *b, unsigned n)
{
	uint64_t v = 0;

	if ((size_t)(b->end - b->p) < n) {
		b->bad = true;
		b->p = b->end;
		return 0;
	}
	memcpy(&v, b->p, n);
	b->p += n;
	return v;
}

static uint64_t get_leb(struct bytes *b, bool is_signed)
{
	uint64_t v = 0;
	unsigned shift = 0;
	uint64_t byte;

	do {
		byte = get(b, 1);
		if (shift < 64)
			v |= (byte & 0x7f) << shift;
		shift += 7;
	} while (byte & 0x80);
	if (is_signed && byte & 0x40 && shift < 64)
		v |= UINT64_MAX << shift;
	return v;
}

static uint64_t uleb(struct bytes *b)
{
	return get_leb(b, false);
}

struct row {
	uint64_t cfa_reg;
	int64_t cfa; /* the register, and this, is where the caller's stack begins */
	bool bp_saved;
	int64_t bp; /* from there */
	bool ends;
};

struct program {
	uint64_t code_align;
	int64_t data_align;
	struct row first; /* of the CIE */
	struct row row;
	struct row saved[SAVED_STATES];
	unsigned saves;
	uint64_t at;
	uint64_t stop; /* rows of addresses from here on are not ours */
};

/* Only rbp counts, and the return address, which has to be where calls put it. */
static void set_saved(struct program *g, struct bytes *b, uint64_t reg, int64_t offset)
{
	if (reg == REG_BP) {
		g->row.bp_saved = true;
		g->row.bp = offset;
	} else if (reg == REG_RA) {
		b->bad |= offset != -8;
	}
}

static void set_unsaved(struct program *g, struct bytes *b, uint64_t reg, bool restores)
{
	if (reg == REG_BP) {
		g->row.bp_saved = restores && g->first.bp_saved;
		g->row.bp = g->first.bp;
	} else if (reg == REG_RA) {
		g->row.ends = true;
		b->bad |= restores;
	}
}

static void set_other(struct bytes *b, uint64_t reg)
{
	b->bad |= reg == REG_BP || reg == REG_RA || reg == REG_SP;
}

static void skip_block(struct bytes *b)
{
	uint64_t n = uleb(b);

	if (n > (uint64_t)(b->end - b->p))
		b->bad = true;
	else
		b->p += n;
}

static void remember(struct program *g, struct bytes *b)
{
	if (g->saves == SAVED_STATES)
		b->bad = true;
	else
		g->saved[g->saves++] = g->row;
}

static void bring_back(struct program *g, struct bytes *b)
{
	if (!g->saves)
		b->bad = true;
	else
		g->row = g->saved[--g->saves];
}

/* The operations that set where the caller's stack begins, and those that are about one register
 * in a way that rbp and the return address do not have. */
static void step_rare(struct program *g, struct bytes *b, unsigned op)
{
	uint64_t reg;

	switch (op) {
	case 0x0c: /* DW_CFA_def_cfa */
		g->row.cfa_reg = uleb(b);
		g->row.cfa = (int64_t)uleb(b);
		break;
	case 0x0d: /* DW_CFA_def_cfa_register */
		g->row.cfa_reg = uleb(b);
		break;
	case 0x0e: /* DW_CFA_def_cfa_offset */
		g->row.cfa = (int64_t)uleb(b);
		break;
	case 0x09: /* DW_CFA_register */
		set_other(b, uleb(b));
		uleb(b);
		break;
	case 0x0f: /* DW_CFA_def_cfa_expression: may be replaced by a later row */
		g->row.cfa_reg = REG_RA;
		skip_block(b);
		break;
	case 0x10: /* DW_CFA_expression */
	case 0x16: /* DW_CFA_val_expression */
		reg = uleb(b);
		set_other(b, reg);
		skip_block(b);
		break;
	case 0x2e: /* DW_CFA_GNU_args_size */
		uleb(b);
		break;
	default:
		b->bad = true;
	}
}

static void step(struct program *g, struct bytes *b)
{
	unsigned op = (unsigned)get(b, 1);
	unsigned low = op & 0x3f;
	uint64_t reg;

	if (op >> 6 == 1) { /* DW_CFA_advance_loc */
		g->at += low * g->code_align;
		return;
	}
	if (op >> 6 == 2) { /* DW_CFA_offset */
		set_saved(g, b, low, (int64_t)uleb(b) * g->data_align);
		return;
	}
	if (op >> 6 == 3) { /* DW_CFA_restore */
		set_unsaved(g, b, low, true);
		return;
	}
	switch (op) {
	case 0x00: /* DW_CFA_nop */
		break;
	case 0x02: /* DW_CFA_advance_loc1, 2, 4 */
	case 0x03:
	case 0x04:
		g->at += get(b, 1u << (op - 2)) * g->code_align;
		break;
	case 0x05: /* DW_CFA_offset_extended */
		reg = uleb(b);
		set_saved(g, b, reg, (int64_t)uleb(b) * g->data_align);
		break;
	case 0x06: /* DW_CFA_restore_extended */
		set_unsaved(g, b, uleb(b), true);
		break;
	case 0x07: /* DW_CFA_undefined */
	case 0x08: /* DW_CFA_same_value */
		reg = uleb(b);
		b->bad |= op == 0x08 && reg == REG_RA;
		set_unsaved(g, b, reg, false);
		break;
	case 0x0a: /* DW_CFA_remember_state */
		remember(g, b);
		break;
	case 0x0b: /* DW_CFA_restore_state */
		bring_back(g, b);
		break;
	default:
		step_rare(g, b, op);
	}
}

static void execute(struct program *g, struct bytes *b)
{
	while (b->p < b->end && !b->bad && g->at < g->stop)
		step(g, b);
}

/* The length of a pointer in this encoding; 0 for one that is aligned or of no known length. */
static unsigned pointer_bytes(unsigned encoding)
{
	static const uint8_t bytes[8] = { 8, 0, 2, 4, 8, 0, 0, 0 };

	return (encoding & 0x70) == 0x50 ? 0 : bytes[encoding & 7];
}

static bool cie_begin(struct program *g, struct bytes *b)
{
	const uint8_t *letter;
	uint64_t version = get(b, 1);
	bool by_pc = false;

	letter = b->p;
	while (get(b, 1) && !b->bad)
		;
	if (b->bad || (version != 1 && version != 3) || *letter++ != 'z')
		return false;
	g->code_align = uleb(b);
	g->data_align = (int64_t)get_leb(b, true);
	if (uleb(b) != REG_RA)
		return false;
	uleb(b);
	for (; *letter; letter++) {
		unsigned encoding = (unsigned)get(b, 1);

		if (*letter == 'P' && pointer_bytes(encoding))
			get(b, pointer_bytes(encoding));
		else if (*letter == 'R')
			by_pc = encoding == PC_BY_PC;
		else if (*letter != 'L')
			return false;
	}
	return by_pc && !b->bad;
}

/* ---- rules ----------------------------------------------------------------------------------- */

struct fde {
	const uint8_t *cie;
	uint32_t cie_bytes; /* without the word that says so */
	const uint8_t *p;
	uint32_t bytes;
};

static uint64_t pack(const struct row *row)
{
	uint64_t cfa = (uint64_t)row->cfa;
	uint64_t bp = row->bp_saved ? (uint64_t)-row->bp : 0;

	if (row->ends)
		return RULE_END;
	if ((row->cfa_reg != REG_SP && row->cfa_reg != REG_BP) || cfa > OFFSET_MAX ||
	    bp > OFFSET_MAX || (row->bp_saved && !bp))
		return RULE_NONE;
	return (row->cfa_reg == REG_SP ? RULE_SP : RULE_BP) | cfa << 8 | bp << (8 + OFFSET_BITS);
}

static uint64_t rule_of(const struct fde *f, uintptr_t pc)
{
	struct bytes b = { f->cie + 8, f->cie + 4 + f->cie_bytes, false };
	struct program g = { .at = 0, .stop = 1 };
	int32_t begin;

	if (!cie_begin(&g, &b))
		return RULE_NONE;
	execute(&g, &b);
	if (b.bad)
		return RULE_NONE;
	g.first = g.row;
	b = (struct bytes){ f->p + 8, f->p + 4 + f->bytes, false };
	begin = (int32_t)get(&b, 4);
	g.at = (uintptr_t)(f->p + 8) + (uintptr_t)(intptr_t)begin;
	if (pc - g.at >= get(&b, 4))
		return RULE_NONE;
	g.stop = pc + 1;
	skip_block(&b);
	execute(&g, &b);
	return b.bad ? RULE_NONE : pack(&g.row);
}

static uint32_t word_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t sum_of(uint64_t sum, const uint8_t *p, uint32_t bytes)
{
	uint64_t v;

	for (; bytes >= 8; bytes -= 8, p += 8) {
		memcpy(&v, p, 8);
		sum = (sum ^ v) * UINT64_C(0x9e3779b97f4a7c15);
		sum ^= sum >> 29;
	}
	return bytes ? (sum ^ word_at(p)) * UINT64_C(0x9e3779b97f4a7c15) : sum;
}

static int32_t row_begin(const uint8_t *hdr, uint32_t row)
{
	return (int32_t)word_at(hdr + 12 + (size_t)row * 8);
}

static bool is_row(const uint8_t *hdr, uint32_t rows, uint32_t row, int64_t at)
{
	return row < rows && row_begin(hdr, row) <= at &&
	       (row + 1 == rows || row_begin(hdr, row + 1) > at);
}

static uint32_t find_row(const uint8_t *hdr, uint32_t rows, int64_t at)
{
	uint32_t low = 0;

	while (rows > 1) {
		uint32_t half = rows / 2;

		if (row_begin(hdr, low + half) <= at)
			low += half;
		rows -= half;
	}
	return low;
}

/* Lengths are multiples of 4. */
static bool fde_at(const uint8_t *p, struct fde *f)
{
	f->p = p;
	f->bytes = word_at(p);
	if (f->bytes < 12 || f->bytes > FDE_MAX || f->bytes % 4)
		return false;
	f->cie = p + 4 - word_at(p + 4);
	f->cie_bytes = word_at(f->cie);
	return f->cie_bytes >= 8 && f->cie_bytes <= CIE_MAX && f->cie_bytes % 4 == 0;
}

static uint64_t find_rule(const uint8_t *hdr, uintptr_t pc)
{
	struct place *place = &places[(pc ^ pc >> 12) % PLACES];
	uint32_t row = atomic_load_explicit(&place->row, memory_order_relaxed);
	int64_t at = (int64_t)(pc - (uintptr_t)hdr);
	uint32_t rows;
	uint64_t key;
	uint64_t rule;
	struct fde f;

	if (unlikely(word_at(hdr) != HDR_KIND))
		return RULE_NONE;
	rows = word_at(hdr + 8);
	if (unlikely(!is_row(hdr, rows, row, at))) {
		row = find_row(hdr, rows, at);
		if (!is_row(hdr, rows, row, at))
			return RULE_NONE;
		atomic_store_explicit(&place->row, row, memory_order_relaxed);
	}
	if (unlikely(!fde_at(hdr + (int32_t)word_at(hdr + 16 + (size_t)row * 8), &f)))
		return RULE_NONE;
	key = sum_of(pc ^ (uintptr_t)f.p << 16, f.p, f.bytes + 4);
	key = sum_of(key, f.cie, f.cie_bytes + 4);
	rule = atomic_load_explicit(&place->rule, memory_order_relaxed);
	if (unlikely((atomic_load_explicit(&place->key, memory_order_relaxed) ^ rule) != key)) {
		rule = rule_of(&f, pc);
		atomic_store_explicit(&place->rule, rule, memory_order_relaxed);
		atomic_store_explicit(&place->key, key ^ rule, memory_order_relaxed);
	}
	return rule;
}

/* ---- the walk -------------------------------------------------------------------------------- */

struct frame {
	uintptr_t pc;
	uintptr_t sp;
	uintptr_t bp;
};

/* Reads what the callers have saved, which no sanitizer has to know. */
__attribute__((no_sanitize("address", "thread"))) static uintptr_t saved_at(uintptr_t p)
{
	return *(const uintptr_t *)p;
}

/* RULE_END if it has no caller, RULE_NONE if that is not known. */
static enum rule_kind to_caller(struct frame *f)
{
	struct dl_find_object module;
	uint64_t rule;
	uint64_t bp;
	uintptr_t cfa;

	if (_dl_find_object((void *)(f->pc - 1), &module))
		return RULE_END;
	if (unlikely(!module.dlfo_eh_frame))
		return RULE_NONE;
	rule = find_rule(module.dlfo_eh_frame, f->pc - 1);
	if (unlikely((rule & 0xff) < RULE_SP))
		return (enum rule_kind)rule;
	cfa = ((rule & 0xff) == RULE_SP ? f->sp : f->bp) + (rule >> 8 & OFFSET_MAX);
	if (unlikely(cfa <= f->sp || cfa % sizeof(uintptr_t)))
		return RULE_NONE;
	bp = rule >> (8 + OFFSET_BITS);
	if (bp)
		f->bp = saved_at(cfa - bp);
	f->pc = saved_at(cfa - sizeof(uintptr_t));
	f->sp = cfa;
	return RULE_SP;
}

noinline bool unwind_walk(uintptr_t *pc, unsigned most, unsigned *n)
{
	struct frame f;
	enum rule_kind kind;

	__asm__ volatile("movq %%rsp, %1\n\tmovq %%rbp, %2\n\tleaq 0(%%rip), %0"
			 : "=&r"(f.pc), "=&r"(f.sp), "=&r"(f.bp));
	*n = 0;
	kind = to_caller(&f);
	while (kind == RULE_SP && f.pc && *n < most) {
		pc[(*n)++] = f.pc;
		kind = to_caller(&f);
	}
	return kind != RULE_NONE || *n == most;
}

#else

bool unwind_walk(uintptr_t *pc, unsigned most, unsigned *n)
{
	(void)pc;
	(void)most;
	*n = 0;
	return false;
}

#endif
