/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sealed.h - data of the library that does not change after the start.
 *
 * It lies in pages of its own, which have no other data: each type of it is a multiple of
 * SEALED_PAGE long. os/seal.h makes them read-only.
 */
#ifndef SLUICE_SEALED_H
#define SLUICE_SEALED_H

/* The kernel's page, or the largest that it may have: what the linker aligns segments to. */
#if defined(__x86_64__)
#define SEALED_PAGE 4096
#else
#define SEALED_PAGE 65536
#endif

#define SEALED_TYPE __attribute__((aligned(SEALED_PAGE)))
#define SEALED __attribute__((section("sluice_sealed")))

#endif
