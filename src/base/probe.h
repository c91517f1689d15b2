/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * probe.h - static probe points (USDT) of the provider `sluice`, for bpftrace, perf and gdb. Each
 * is one nop and a note in the file while no tracer is attached, and stands on a slow path. Without
 * sys/sdt.h they are nothing. doc/hosts.md lists them.
 */
#ifndef SLUICE_PROBE_H
#define SLUICE_PROBE_H

#ifdef HAVE_SDT
#include <sys/sdt.h>
#define PROBE(name) DTRACE_PROBE(sluice, name)
#define PROBE1(name, a) DTRACE_PROBE1(sluice, name, a)
#define PROBE2(name, a, b) DTRACE_PROBE2(sluice, name, a, b)
#define PROBE3(name, a, b, c) DTRACE_PROBE3(sluice, name, a, b, c)
#else
#define PROBE(name) ((void)0)
#define PROBE1(name, a) ((void)(a))
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
