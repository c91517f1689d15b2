/* SPDX-License-Identifier: BSD-2-Clause */
/* output.h - samples as text for people, programs, Prometheus and gnuplot. */
#ifndef SLUICE_TOP_OUTPUT_H
#define SLUICE_TOP_OUTPUT_H

#include <stdio.h>

#include "top/sample.h"

/* What sluice-stat prints for a sample; head: the names of the columns, too. */
void output_line(FILE *out, const struct sample *now, const struct sample *before, bool head);

/* One JSON object on one line. */
void output_json(FILE *out, const struct sample *now, pid_t pid);

/* Prometheus' text format. */
void output_prometheus(FILE *out, const struct sample *now, pid_t pid);

/* A script for gnuplot with its data: the layers over time. begin comes before the first sample. */
void output_plot_begin(FILE *out, pid_t pid);
void output_plot(FILE *out, const struct sample *now);
void output_plot_end(FILE *out, const struct sample *last, pid_t pid);

#endif
