/* SPDX-License-Identifier: BSD-2-Clause */
/* families.c - the workloads of sluice-bench-work. */
#include "../common/work.h"

const char bench_program[] = "sluice-bench-work";

const struct workload *const bench_families[] = {
	single_workloads,
	blocks_workloads,
	churn_workloads,
	queue_workloads,
	thread_workloads,
	batch_workloads,
	sharing_workloads,
	process_workloads,
	steady_workloads,
	scale_workloads,
	NULL,
};
