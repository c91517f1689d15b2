/* SPDX-License-Identifier: BSD-2-Clause */
/* A module whose constructor keeps its thread inside dlopen; STOP_LOADING in the environment says
 * so. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void stay(void)
{
	setenv("STOP_LOADING", "1", 1);
	sleep(1000);
}
