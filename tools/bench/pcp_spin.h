/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcp_spin.h - pcp_lock=spin: see pcp_variants.h. Comes before pcp.c (-include).
 */
#ifndef PCP_SPIN_H
#define PCP_SPIN_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#define PCP_VARIANT spin
#include "pcp_variants.h"

#endif
