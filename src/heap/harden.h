/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * harden.h - what a hardened process does at each malloc and free.
 */
#ifndef SLUICE_HARDEN_H
#define SLUICE_HARDEN_H

/*
 * Reads the options check, quarantine, zero_on_free, canary, random_slots and check_sizes, and
 * hardens the process if one of them asks for it. Called once, from the constructor, when the
 * process has one thread.
 */
void harden_init(void);

#endif
