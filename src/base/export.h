/* SPDX-License-Identifier: BSD-2-Clause */
/* export.h - what marks a function as part of the library's interface. */
#ifndef SLUICE_EXPORT_H
#define SLUICE_EXPORT_H

#define EXPORT __attribute__((visibility("default")))

/* Another name of the function, which has all that the C library's header says of the first one. */
#if __has_attribute(copy)
#define ALIAS(name) EXPORT __attribute__((alias(#name), copy(name)))
#else
#define ALIAS(name) EXPORT __attribute__((alias(#name)))
#endif

#endif
