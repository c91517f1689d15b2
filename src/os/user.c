/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * user.c - see user.h. Used by control and export. No lock; allocates nothing; no signal handler.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "os/user.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

#define UID_OVERFLOW 65534u /* the kernel's overflowuid, unless the system sets another */

/* Whether each user of the system has a number here, and it is his own: "0 0 4294967295". */
static bool all_have_numbers(void)
{
	static const char all[] = "004294967295";
	char text[256];
	int fd = sys_open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC, 0);
	ssize_t n = fd < 0 ? 0 : sys_read(fd, text, sizeof(text));
	size_t same = 0;

	if (fd >= 0)
		sys_close(fd);
	for (ssize_t i = 0; i < n && text[i] != '\n'; i++) {
		if (text[i] == ' ')
			continue;
		if (text[i] != all[same])
			return false;
		same++;
	}
	return same == strlen(all);
}

bool user_is_own(uid_t uid)
{
	return uid == geteuid() && (uid != UID_OVERFLOW || all_have_numbers());
}
