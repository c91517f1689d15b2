/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * control.c - see control.h. Used by init, background and fork; uses reclaim and info.
 *
 * (A) A peer cannot hold up the background thread: once a tick the thread serves at most one peer
 *     that may ask and REFUSED_MAX that may not, and never waits. An answer that the peer has no
 *     room for is dropped.
 * (B) The kernel says with each message who sent it (SCM_CREDENTIALS); the message is not read
 *     before that is checked. Descriptors that come with a message find no room: the kernel closes
 *     them.
 * (C) The socket is made at the start (ourfd.h), and in the handler of a fork child. It has no
 *     connections, because each would be a descriptor. It gets its name when the background thread
 *     first asks for it, so there is a thread that answers.
 *
 * No lock: after the start, the background thread only. Allocates nothing; makes system calls.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "reclaim/control.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/options.h"
#include "base/ourfd.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "heap/profile.h"
#include "os/seal.h"
#include "os/user.h"
#include "reclaim/export.h"
#include "reclaim/info.h"
#include "reclaim/reclaim.h"

#define REFUSED_MAX 256u

static struct ourfd listener = OURFD_NONE;
static bool named;

void control_init(void)
{
	const int on = 1;
	int fd;

	if (!options.control)
		return;
	fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && sys_setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) != 0) {
		sys_close(fd);
		fd = -1;
	}
	ourfd_set(&listener, fd);
	named = false;
}

int control_socket(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len;

	if (!options.control || !ourfd_good(&listener))
		return -1;
	/* An abstract name begins with a zero byte and ends where the address ends. */
	len = log_format(addr.sun_path + 1, sizeof(addr.sun_path) - 1, CONTROL_NAME "%u",
			 (unsigned)sys_getpid());
	if (!named)
		named = sys_bind(listener.fd, (struct sockaddr *)&addr,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) ==
			0;
	return named ? listener.fd : -1;
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

static void put_error(struct answer *a, const char *why)
{
	a->len += log_format(a->text + a->len, sizeof(a->text) - a->len, "error %s\n", why);
}

static void answer_get(struct answer *a, const char *name)
{
	char text[OPTION_STRING_MAX];

	if (!options_show(name, text, sizeof(text))) {
		put_error(a, text);
		return;
	}
	/* Not what it began with: answer_profile and mallctl change it. */
	if (profile_on && strcmp(name, "prof_active") == 0)
		log_format(text, sizeof(text),
			   atomic_load_explicit(&profile_active, memory_order_relaxed) ? "on"
										       : "off");
	put_text(a, "ok");
	a->len += log_format(a->text + a->len, sizeof(a->text) - a->len, "%s %s\n", name, text);
}

/* words: NAME VALUE. */
static void answer_set(struct answer *a, char *words)
{
	char why[OPTION_STRING_MAX];
	char *value = strchr(words, ' ');

	if (!value) {
		put_error(a, "set needs the name of an option and a value");
		return;
	}
	*value++ = '\0';
	seal_open();
	if (options_change(words, value, why, sizeof(why)))
		answer_get(a, words);
	else
		put_error(a, why);
}

static void answer_dump(struct answer *a, const char *path)
{
	char name[PROFILE_NAME_MAX];
	char why[PROFILE_NAME_MAX + 100];
	int err = profile_dump_named(path, 'm', name);

	if (!err) {
		put_text(a, "ok");
		a->len += log_format(a->text + a->len, sizeof(a->text) - a->len, "file %s\n", name);
		return;
	}
	if (*name)
		log_format(why, sizeof(why), "'%s' cannot be written: %s", name,
			   profile_error(err));
	put_error(a, *name           ? why
		     : err == ENOENT ? "prof_prefix is empty, so a file must be named"
				     : profile_error(err));
}

/* words: start, stop, dump, or dump FILE. */
static void answer_profile(struct answer *a, const char *words)
{
	if (!profile_on) {
		put_error(a, "the process has no heap profile (option prof)");
		return;
	}
	if (strcmp(words, "start") == 0)
		atomic_store_explicit(&profile_active, 1, memory_order_relaxed);
	else if (strcmp(words, "stop") == 0)
		atomic_store_explicit(&profile_active, 0, memory_order_relaxed);
	else if (strcmp(words, "dump") == 0 || strncmp(words, "dump /", 6) == 0)
		answer_dump(a, words[4] ? words + 5 : NULL);
	else
		put_error(a, "a profile is started, stopped or dumped");
	if (!a->len)
		put_text(a, "ok");
}

static void answer_drain(struct answer *a, const char *digits)
{
	struct reclaim_report r;
	unsigned flags = 0;

	for (; *digits >= '0' && *digits <= '9' && flags <= RECLAIM_FLAGS; digits++)
		flags = flags * 10 + (unsigned)(*digits - '0');
	if (*digits || !flags || (flags & ~RECLAIM_FLAGS)) {
		put_text(a, "error these flags of a drain are not known");
		return;
	}
	reclaim_drain(flags, 0, &r);
	put_text(a, "ok");
#define VALUE(field) put_value(a, #field, r.field)
	VALUE(heaps_emptied);
	VALUE(heaps_skipped);
	VALUE(heaps_hot);
	VALUE(bytes_hot);
	VALUE(caches_reached);
	VALUE(caches_skipped);
	VALUE(bytes_drained);
	VALUE(bytes_purged);
	VALUE(bytes_unmapped);
	VALUE(time_ns);
#undef VALUE
}

static void answer_to(struct answer *a, char *request)
{
	if (strcmp(request, "stats") == 0) {
		put_text(a, "ok");
		info_each(true, put_value, a);
	} else if (strcmp(request, "top") == 0) {
		put_text(a, "ok");
		a->len += export_text(a->text + a->len, sizeof(a->text) - a->len);
	} else if (strncmp(request, "get ", 4) == 0) {
		answer_get(a, request + 4);
	} else if (strncmp(request, "set ", 4) == 0) {
		answer_set(a, request + 4);
	} else if (strcmp(request, "profile") == 0 || strncmp(request, "profile ", 8) == 0) {
		answer_profile(a, request[7] ? request + 8 : "dump");
	} else if (strncmp(request, "drain ", 6) == 0) {
		answer_drain(a, request + 6);
	} else {
		put_text(a, "error this request is not known");
	}
}

static bool may_ask(const struct msghdr *m)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	struct ucred peer;

	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS ||
	    c->cmsg_len < CMSG_LEN(sizeof(peer)))
		return false;
	memcpy(&peer, CMSG_DATA(c), sizeof(peer));
	return peer.uid == 0 || user_is_own(peer.uid);
}

enum served { SERVED_NONE, SERVED_REFUSAL, SERVED_ANSWER };

static enum served serve_one(void)
{
	static struct answer a;
	char request[CONTROL_REQUEST_MAX];
	struct sockaddr_un from;
	union {
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} room;
	struct iovec text = { request, sizeof(request) - 1 };
	struct msghdr m = {
		.msg_name = &from,
		.msg_namelen = sizeof(from),
		.msg_iov = &text,
		.msg_iovlen = 1,
		.msg_control = &room,
		.msg_controllen = sizeof(room.bytes),
	};
	ssize_t n = sys_recvmsg(listener.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	bool may;

	if (n < 0)
		return SERVED_NONE;
	may = may_ask(&m);
	a.len = 0;
	request[n] = '\0';
	if (may)
		answer_to(&a, request);
	else
		put_text(&a, "error permission denied");
	n = sys_sendto(listener.fd, a.text, a.len, MSG_NOSIGNAL | MSG_DONTWAIT, &from,
		       m.msg_namelen);
	(void)n; /* the peer has gone, or has no room */
	return may ? SERVED_ANSWER : SERVED_REFUSAL;
}

void control_serve(void)
{
	for (unsigned i = 0; i < REFUSED_MAX && ourfd_good(&listener); i++)
		if (serve_one() != SERVED_REFUSAL)
			break;
}

void control_fork_child(bool copy)
{
	named = false;
	if (copy)
		ourfd_forget(&listener);
	if (copy || !options.control || !sandbox_enter())
		return;
	ourfd_close(&listener);
	control_init();
	sandbox_leave();
}
