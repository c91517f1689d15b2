/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-stat: one line a second about the memory of a process that uses Sluice; see
 * sluice-stat(1). Exit status: 0; 1 if the process cannot be read; 2 for bad arguments.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "ctl/ask.h"
#include "top/wish.h"

static const char usage[] =
	"Usage: sluice-stat [OPTIONS] [PID]\n"
	"\n"
	"Prints one line a second about the process PID, which uses Sluice with the option\n"
	"export:1 or control:1: bytes by layer, and rates. Without PID: the only such process.\n"
	"\n";

int main(int argc, char **argv)
{
	struct source source;
	struct wish w;
	char why[ASK_WHY];

	wish_me = "sluice-stat";
	wish_parse(&w, argc, argv, FORM_LINES, usage);
	if (!source_open(&source, w.pid, why))
		die(EXIT_UNREAD, "%s", why);
	return wish_print(&w, &source);
}
