/* SPDX-License-Identifier: BSD-2-Clause */
/* screen.h - the live view of sluice-top. */
#ifndef SLUICE_TOP_SCREEN_H
#define SLUICE_TOP_SCREEN_H

#include "top/wish.h"

/* Prints the view as text, 80 columns wide. */
void screen_once(const struct sample *now, const struct sample *before, struct wish *w);

/* Shows the view until the user quits, the process ends or the samples are used up. Returns the
 * exit status; *ended: the process has ended. */
int screen_run(struct wish *w, struct source *s, bool *ended);

#endif
