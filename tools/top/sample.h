/* SPDX-License-Identifier: BSD-2-Clause */
/* sample.h - the statistics of a process at one moment, and what changed since the one before. */
#ifndef SLUICE_TOP_SAMPLE_H
#define SLUICE_TOP_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum value_id {
#define LAYER(name, text) V_layer_##name,
#define GAUGE(name, text) V_##name,
#define FOLDED(name, text) V_##name,
#define STAT(name, text) V_##name,
#include "base/stats.def"
	VALUES,
#define LAYER(name, text) LAYER_##name,
#include "base/stats.def"
	LAYERS_END
};
#define LAYERS ((unsigned)LAYERS_END - VALUES - 1) /* the first values */

enum value_kind { KIND_LAYER, KIND_GAUGE, KIND_COUNTER };

struct value_info {
	const char *name;
	const char *text;
	enum value_kind kind;
};
extern const struct value_info value_info[VALUES];

#define SAMPLE_THREADS 64u

struct sample_thread {
	pid_t tid;
	uint64_t cached;
	uint64_t pcp;
	uint64_t refills;
	uint64_t flushes;
	char name[17];
};

struct sample {
	uint64_t time_ns;
	uint64_t value[VALUES];
	uint64_t rss; /* of the whole process, from the kernel; 0: not known */
	char program[17];
	unsigned threads;
	struct sample_thread thread[SAMPLE_THREADS];
};

/* Reads a text of src/reclaim/export.h and what /proc says. Changes the text. */
void sample_parse(struct sample *s, char *text, pid_t pid);

/* Events in a second. Returns 0 if before is NULL or of another start of the process. */
double sample_rate(const struct sample *now, const struct sample *before, enum value_id v);
double sample_thread_rate(const struct sample *now, const struct sample *before, unsigned i,
			  bool flushes);

enum sample_order { ORDER_CACHED, ORDER_PCP, ORDER_REFILLS, ORDER_FLUSHES, ORDER_TID, ORDERS };
extern const char *const sample_orders[ORDERS];
void sample_sort(struct sample *s, const struct sample *before, enum sample_order order);

/* "12.3M"; room for BYTES_TEXT characters. */
#define BYTES_TEXT 24
const char *sample_bytes(char *buf, uint64_t bytes);

#endif
