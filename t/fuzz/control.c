/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz/control - any message to the control socket gets one answer, "ok" or "error". For libFuzzer;
 * `make fuzz` builds it.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/options.h"
#include "reclaim/control.h"
#include "shim/init.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static int peer;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(addr);
	int fd;

	(void)argc;
	(void)argv;
	setenv("SLUICE_CONF", "backtrace:0,background:never,control:1", 1);
	options_load();
	sluice_init();
	control_init();
	fd = control_socket();
	peer = socket(AF_UNIX, SOCK_DGRAM, 0);
	/* The kernel gives a peer that binds to nothing a name of its own, to answer to. */
	if (fd < 0 || getsockname(fd, (struct sockaddr *)&addr, &len) != 0 || peer < 0 ||
	    bind(peer, (struct sockaddr *)&(struct sockaddr_un){ .sun_family = AF_UNIX },
		 sizeof(sa_family_t)) != 0 ||
	    connect(peer, (struct sockaddr *)&addr, len) != 0) {
		perror("fuzz/control: no socket");
		exit(2);
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static char answer[CONTROL_ANSWER_MAX + 1];
	ssize_t n = -1;

	if (send(peer, data, bytes, MSG_DONTWAIT) < 0)
		return 0; /* too long */
	/* One who looks for all processes, as sluice-stat does, may have asked before. */
	for (int i = 0; i < 8; i++) {
		control_serve();
		n = recv(peer, answer, sizeof(answer), MSG_DONTWAIT);
		if (n >= 0)
			break;
	}
	if (n <= 0 || n > CONTROL_ANSWER_MAX || answer[n - 1] != '\n' ||
	    (memcmp(answer, "ok", 2) != 0 && memcmp(answer, "error ", 6) != 0)) {
		if (n < 0)
			perror("fuzz/control: no answer");
		abort();
	}
	return 0;
}
