/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.c - see control.h. Used by background and fork; uses reclaim and info.
 *
 * (A) Nobody can hold up the background thread: a peer that does not say anything within WAIT_MS is
 *     let go, and an answer that it does not take is dropped.
 * (B) Who the peer is says the kernel (SO_PEERCRED), at the time it connected.
 *
 * No lock; one thread. Allocates nothing; enters the kernel and sleeps.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "info.h"
#include "log.h"
#include "options.h"
#include "ourfd.h"
#include "reclaim.h"
#include "sys.h"

#define WAIT_MS 200
#define BACKLOG 8

static struct ourfd listener = OURFD_NONE;

int control_socket(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len;
	int fd;

	if (!options.control || ourfd_good(&listener))
		return listener.fd;
	/* The name begins with a zero byte, and ends with the address. */
	len = log_format(addr.sun_path + 1, sizeof(addr.sun_path) - 1, CONTROL_NAME "%u",
			 (unsigned)getpid());
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&addr,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) != 0 ||
	    listen(fd, BACKLOG) != 0) {
		sys_close(fd);
		return -1;
	}
	ourfd_set(&listener, fd);
	return listener.fd;
}

/* ---- answers ------------------------------------------------------------------------------- */

struct answer {
	char text[CONTROL_ANSWER_MAX];
	size_t len;
};

static void put_value(void *arg, const char *name, uint64_t value)
{
	struct answer *a = arg;

	a->len += log_format(a->text + a->len, sizeof(a->text) - a->len, "%s %lu\n", name,
			     (unsigned long)value);
}

static void put_text(struct answer *a, const char *text)
{
	a->len += log_format(a->text + a->len, sizeof(a->text) - a->len, "%s\n", text);
}

static void answer_drain(struct answer *a, const char *digits)
{
	struct reclaim_report r;
	unsigned flags = 0;

	for (; *digits >= '0' && *digits <= '9'; digits++)
		flags = flags * 10 + (unsigned)(*digits - '0');
	if (*digits || !flags || (flags & ~RECLAIM_ALL)) {
		put_text(a, "error these flags of a drain are not known");
		return;
	}
	reclaim_drain(flags, 0, &r);
	put_text(a, "ok");
#define VALUE(field) put_value(a, #field, r.field)
	VALUE(heaps_emptied);
	VALUE(heaps_skipped);
	VALUE(caches_reached);
	VALUE(caches_skipped);
	VALUE(bytes_drained);
	VALUE(bytes_purged);
	VALUE(bytes_unmapped);
	VALUE(time_ns);
#undef VALUE
}

static void answer_to(struct answer *a, const char *request)
{
	if (strcmp(request, "stats") == 0) {
		put_text(a, "ok");
		info_each(put_value, a);
	} else if (strncmp(request, "drain ", 6) == 0) {
		answer_drain(a, request + 6);
	} else {
		put_text(a, "error this request is not known");
	}
}

static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static void serve_one(int fd)
{
	static struct answer a;
	char request[CONTROL_REQUEST_MAX];
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	ssize_t n;

	a.len = 0;
	if (sys_poll(&wait, 1, WAIT_MS) != 1)
		return;
	n = sys_recv(fd, request, sizeof(request) - 1, MSG_DONTWAIT);
	if (n <= 0)
		return;
	request[n] = '\0';
	if (may_ask(fd))
		answer_to(&a, request);
	else
		put_text(&a, "error permission denied");
	n = sys_send(fd, a.text, a.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)n; /* it has gone, or does not listen */
}

void control_serve(void)
{
	while (ourfd_good(&listener)) {
		struct sockaddr_un from;
		socklen_t len = sizeof(from);
		int fd = sys_accept4(listener.fd, (struct sockaddr *)&from, &len,
				     SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			break;
		serve_one(fd);
		sys_close(fd);
	}
}

void control_fork_child(bool copy)
{
	if (copy)
		ourfd_forget(&listener);
	else
		ourfd_close(&listener);
}
