/* SPDX-License-Identifier: BSD-2-Clause */
/* export.h - what marks a function as part of the library's interface. */
#ifndef SLUICE_EXPORT_H
#define SLUICE_EXPORT_H

#define EXPORT __attribute__((visibility("default")))

#endif
