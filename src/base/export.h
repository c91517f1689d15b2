/* SPDX-License-Identifier: BSD-2-Clause */
/* export.h - attributes of the functions that the library exports. */
#ifndef SLUICE_EXPORT_H
#define SLUICE_EXPORT_H

#define EXPORT __attribute__((visibility("default")))

/* The functions that programs call most lie side by side, each at the start of a cache line. */
#define HOT __attribute__((hot, aligned(64)))

/* Another name of a function, with the attributes that the C library declares for the function. */
#if __has_attribute(copy)
#define OWN_ALIAS(name) __attribute__((alias(#name), copy(name)))
#else
#define OWN_ALIAS(name) __attribute__((alias(#name)))
#endif
#define ALIAS(name) EXPORT OWN_ALIAS(name)

/* For op, of ours, which frees p: a name that is ours in any case, and op as the program has it.
 * IS_OURS says whether they are one function. */
#define OWN_FREE(op, ...)                                                                          \
	OWN_ALIAS(op) static void own##op(void *p, ##__VA_ARGS__);                                 \
	static void (*const volatile used##op)(void *p, ##__VA_ARGS__) = op
#define IS_OURS(op) likely(used##op == own##op)

/* The function `as` under a second name. In the file that defines it. */
#define SAME(type, name, as, ...)                                                                  \
	type name(__VA_ARGS__);                                                                    \
	ALIAS(as) type name(__VA_ARGS__)

#endif
