/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Calls each function that the library has in front of libc's, and compares results and errno.
 * usage: calls [hooks]
 *
 *   hooks  the library of hooks.c is preloaded as well, and sees each call
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static unsigned (*hooks_count)(const char *name);

/* Makes the call and compares. The hook of that name has seen it once. */
#define SEEN(name, call, want, want_errno)                                                         \
	do {                                                                                       \
		unsigned before = hooks_count ? hooks_count(name) : 0;                             \
		errno = 0;                                                                         \
		CHECK((call) == (want));                                                           \
		CHECK(errno == (want_errno));                                                      \
		if (hooks_count)                                                                   \
			CHECK(hooks_count(name) == before + 1);                                    \
	} while (0)

static void forks(void)
{
	unsigned before = hooks_count ? hooks_count("fork") : 0;
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		free(malloc(100));
		_exit(7);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	      WEXITSTATUS(status) == 7);
	if (hooks_count)
		CHECK(hooks_count("fork") == before + 1);
}

int main(int argc, char **argv)
{
	bool hooked = argc > 1 && strcmp(argv[1], "hooks") == 0;
	void *symbol = dlsym(RTLD_DEFAULT, "hooks_count");

	memcpy(&hooks_count, &symbol, sizeof(hooks_count));
	CHECK((hooks_count != NULL) == hooked);
	free(malloc(10));
	forks();
	SEEN("prctl", prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), 0, 0);
	SEEN("prctl", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), 0, 0);
	SEEN("prctl", prctl(-1, 0, 0, 0, 0), -1, EINVAL);
	SEEN("syscall", (pid_t)syscall(SYS_getppid), getppid(), 0);
	SEEN("syscall", syscall(SYS_close, -1), -1, EBADF);
	SEEN("syscall", syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0), 0, 0);
	SEEN("syscall", syscall(SYS_prctl, PR_GET_DUMPABLE, 0, 0, 0, 0), 1, 0);
	SEEN("syscall", syscall(SYS_seccomp, 99, 0, NULL), -1, EINVAL);
	SEEN("syscall", syscall(SYS_mmap, NULL, 0, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L),
	     -1, EINVAL);
	SEEN("syscall", syscall(SYS_getuid), hooked ? 4711 : (long)getuid(), 0);
	if (hooked)
		SEEN("syscall", syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0), -1, EDOM);
	SEEN("mount", mount("x", "/no/such/place", "no such type", 0, NULL), -1,
	     geteuid() == 0 ? ENOENT : errno);
	SEEN("umount", umount("/no/such/place"), -1, geteuid() == 0 ? ENOENT : errno);
	SEEN("umount2", umount2("/no/such/place", 0), -1, geteuid() == 0 ? ENOENT : errno);
	SEEN("unshare", unshare(0), 0, 0);
	SEEN("setns", setns(-1, 0), -1, EBADF);
	SEEN("mlockall", mlockall(77), -1, EINVAL);
	return helper_end();
}
