/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-latency-work: the workloads of sluice-latency(1), run and reported as sluice-bench-work
 * does (tools/common/work.c). Its JSON line also has `calls`, what was recorded of each operation
 * (record.h), and the measured thread's page faults and context switches.
 */
#include "../common/work.h"

const char bench_program[] = "sluice-latency-work";

const struct workload *const bench_families[] = {
	steady_workloads,    growth_workloads,   burst_workloads,
	neighbour_workloads, periodic_workloads, NULL,
};
