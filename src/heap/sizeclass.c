/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sizeclass.c - the tables behind sizeclass.h, made from sizeclass.def.
 */
#include "heap/sizeclass.h"

const struct size_class size_classes[CLASSES] = {
#define SIZECLASS(size, pages)                                                                     \
	{ size, pages, (uint16_t)((pages)*PG_BYTES / (size)), CLASS_INVERSE(size) },
#include "heap/sizeclass.def"
#undef SIZECLASS
};

/* The amount that rounding up has added to inverse x size, see class_divides. */
#define ROUNDED(size) ((uint64_t)CLASS_INVERSE(size) * (size) - (UINT64_C(1) << 32))
#define SIZECLASS(size, pages)                                                                     \
	_Static_assert(((pages)*PG_BYTES / (size) + 1) * ROUNDED(size) < CLASS_INVERSE(size),      \
		       "multiples of " #size " are told from others");
#include "heap/sizeclass.def"
#undef SIZECLASS

/* Entry 0 is that of size 0, entry i that of sizes up to 16 i: one entry for each class up to 256
 * bytes, two up to 512, four up to 1024. */
#define T1(c) (c) * CLASS_SCALE
#define T2(c) T1(c), T1(c)
#define T4(c) T2(c), T2(c)
const uint16_t class_table[CLASS_TABLE_MAX / 16 + 1] = {
	T1(CLASS_ZERO), T1(0),  T1(1),  T1(2),  T1(3),  T1(4),  T1(5),  T1(6),  T1(7),
	T1(8),          T1(9),  T1(10), T1(11), T1(12), T1(13), T1(14), T1(15), T2(16),
	T2(17),         T2(18), T2(19), T2(20), T2(21), T2(22), T2(23), T4(24), T4(25),
	T4(26),         T4(27), T4(28), T4(29), T4(30), T4(31),
};
