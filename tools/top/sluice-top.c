/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-top: the memory of a process that uses Sluice as it changes; see sluice-top(1).
 * Exit status: 0; 1 if the process cannot be read; 2 for bad arguments.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/ask.h"
#include "top/screen.h"

static const char usage[] =
	"Usage: sluice-top [OPTIONS] [PID]\n"
	"\n"
	"Shows the memory of the process PID, which uses Sluice with the option export:1 or\n"
	"control:1: bytes by layer, rates, and the threads that cache most. Without PID: the only\n"
	"such process. Key h shows the keys.\n"
	"\n"
	"  -s, --sort ORDER     threads by cached, pcp, refills, flushes or tid\n"
	"  --once               print the view as text, once, and end\n"
	"  --no-colour          no colours\n";

int main(int argc, char **argv)
{
	struct source source;
	struct wish w;
	char why[ASK_WHY];
	bool ended = false;
	const char *term = getenv("TERM");
	int status;

	wish_me = "sluice-top";
	wish_once = screen_once;
	wish_parse(&w, argc, argv, FORM_SCREEN, usage);
	if (w.form == FORM_SCREEN && (!isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)))
		die(EXIT_USAGE,
		    "input or output is no terminal, use --once, --json or sluice-stat");
	if (w.form == FORM_SCREEN && (!term || !*term || strcmp(term, "dumb") == 0))
		die(EXIT_USAGE, "TERM is '%s', use --once, --json or sluice-stat",
		    term ? term : "");
	if (!source_open(&source, w.pid, why))
		die(EXIT_UNREAD, "%s", why);
	if (w.form != FORM_SCREEN)
		return wish_print(&w, &source);
	status = screen_run(&w, &source, &ended);
	if (ended)
		printf("sluice-top: %d: the process has ended\n", (int)w.pid);
	return status;
}
