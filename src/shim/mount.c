/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mount.c - umount, umount2 and mount: a file system in which the library has files open is busy,
 * and the program does not know why. Uses ourfd, sandbox, next; used by the program.
 *
 * When the kernel says EBUSY, we close our files in that file system and make the call again. We
 * then do without these files (doc/system-calls.md). A child of vfork can close its own copies of
 * the descriptors only.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/export.h"
#include "base/ourfd.h"
#include "base/sandbox.h"
#include "base/sys.h"
#include "shim/next.h"

/* Whether files were closed, so that the call should be made again. Keeps errno. */
static bool made_room(long r, const char *target)
{
	int saved = errno;
	bool closed = false;
	struct stat st;

	if (r == 0 || saved != EBUSY || !target || !sandbox_enter())
		return false;
	if (sys_fstatat(AT_FDCWD, target, &st, 0) == 0)
		closed = ourfd_close_on(st.st_dev);
	sandbox_leave();
	errno = saved;
	return closed;
}

static int next_umount2(const char *target, int flags)
{
	if (sluice_next.umount2)
		return sluice_next.umount2(target, flags);
	return (int)sluice_syscall(SYS_umount2, target, flags);
}

EXPORT int umount2(const char *target, int flags)
{
	int r = next_umount2(target, flags);

	return made_room(r, target) ? next_umount2(target, flags) : r;
}

static int next_umount(const char *target)
{
	if (sluice_next.umount)
		return sluice_next.umount(target);
	return (int)sluice_syscall(SYS_umount2, target, 0);
}

EXPORT int umount(const char *target)
{
	int r = next_umount(target);

	return made_room(r, target) ? next_umount(target) : r;
}

static int next_mount(const char *source, const char *target, const char *type, unsigned long flags,
		      const void *data)
{
	if (sluice_next.mount)
		return sluice_next.mount(source, target, type, flags, data);
	return (int)sluice_syscall(SYS_mount, source, target, type, flags, data);
}

/* A file system can be made read-only only when no file in it is open for writing. */
EXPORT int mount(const char *source, const char *target, const char *type, unsigned long flags,
		 const void *data)
{
	int r = next_mount(source, target, type, flags, data);

	if (flags & MS_REMOUNT && made_room(r, target))
		r = next_mount(source, target, type, flags, data);
	return r;
}
