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

#include "base/ourfd.h"
#include "base/sys.h"

#define UID_OVERFLOW 65534u /* the kernel's overflowuid, unless the system sets another */

/* Whether each user of the system has a number here, and it is his own: "0 0 4294967295". Unknown
 * in another root directory, which may belong to the user who asks. */
static bool all_have_numbers(void)
{
	static const char all[] = "004294967295";
	char text[256];
	struct ourfd map = OURFD_NONE;
	ssize_t n = 0;
	size_t same = 0;

	if (!ourfd_same_root())
		return false;
	ourfd_take(&map, ourfd_open(AT_FDCWD, "/proc/self/uid_map", O_RDONLY, OURFD_PROC));
	if (ourfd_good(&map))
		n = sys_read(map.fd, text, sizeof(text));
	ourfd_drop(&map);
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
	return uid == sys_geteuid() && (uid != UID_OVERFLOW || all_have_numbers());
}
