/* SPDX-License-Identifier: BSD-2-Clause */
/* refuse.h - for the unit tests: makes the kernel refuse a system call. */
#ifndef T_REFUSE_H
#define T_REFUSE_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>

/* From now on a filter does `action` if argument arg (0 to 5) of the call nr is value, in this
 * thread and in threads it creates; so use it in a child. Returns false if this machine has no
 * seccomp. */
static inline bool filter_call(unsigned nr, unsigned arg, uint32_t value, uint32_t action)
{
	const uint32_t low = (uint32_t)offsetof(struct seccomp_data, args) +
			     arg * (uint32_t)sizeof(uint64_t);
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* The same; the call fails with err. */
static inline bool refuse(unsigned nr, unsigned arg, uint32_t value, uint32_t err)
{
	return filter_call(nr, arg, value, SECCOMP_RET_ERRNO | err);
}

#endif
