/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sluice-bench-launch: run a program several times in sequence and print its time and memory.
 *
 *	sluice-bench-launch [-p LIBRARY] [-n RUNS] [-i FILE] [-m] -- PROGRAM ARGS...
 *
 *	-p LIBRARY  preloaded into PROGRAM, not into the launcher
 *	-n RUNS     number of runs (1)
 *	-i FILE     standard input of PROGRAM (/dev/null); its output is discarded
 *	-m          peak RSS from an additional untimed run, stopped at its end to read VmHWM
 *
 * Prints one line of JSON: ops (runs), ns (wall time of all runs), cpu_ns (of PROGRAM and its
 * children), ns_per_op, cpu_ns_per_op, peak_kib. The launcher is a small program because Linux
 * includes in ru_maxrss what a process had before exec: started from Python, every program would
 * have Python's peak. With -m the launcher's own memory is not counted either, nor are the children
 * of PROGRAM.
 *
 * Exit status: 0; 1 if PROGRAM failed, 2 for bad arguments.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void die(int status, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

static void die(int status, const char *format, ...)
{
	va_list ap;

	fputs("sluice-bench-launch: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t timeval_ns(struct timeval tv)
{
	return (uint64_t)tv.tv_sec * 1000000000u + (uint64_t)tv.tv_usec * 1000u;
}

/* The environment with LD_PRELOAD set to the library, or without it. */
static char **environment(const char *library)
{
	size_t n = 0;
	size_t kept = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	if (!env)
		die(1, "no memory");
	for (size_t i = 0; i < n; i++) {
		if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0)
			env[kept++] = environ[i];
	}
	if (library && asprintf(&env[kept], "LD_PRELOAD=%s", library) < 0)
		die(1, "no memory");
	return env;
}

static void check_status(const char *program, int status)
{
	if (WIFSIGNALED(status))
		die(1, "%s: killed by signal %d (%s)", program, WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die(1, "%s: exit status %d", program, WEXITSTATUS(status));
}

struct result {
	uint64_t wall_ns;
	uint64_t cpu_ns;
	long peak_kib;
};

static void run_once(char **argv, char **env, const posix_spawn_file_actions_t *files,
		     struct result *r)
{
	struct rusage usage;
	uint64_t begin = now_ns();
	int status = 0;
	pid_t pid;
	int error = posix_spawn(&pid, argv[0], files, NULL, argv, env);

	if (error)
		die(1, "%s: %s", argv[0], strerror(error));
	while (wait4(pid, &status, 0, &usage) < 0) {
		if (errno != EINTR)
			die(1, "wait4: %s", strerror(errno));
	}
	r->wall_ns += now_ns() - begin;
	r->cpu_ns += timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
	if (usage.ru_maxrss > r->peak_kib)
		r->peak_kib = usage.ru_maxrss;
	check_status(argv[0], status);
}

static long peak_of(pid_t pid)
{
	char path[64];
	char line[256];
	long kib = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = strtol(line + 6, NULL, 10);
	}
	fclose(f);
	return kib;
}

static _Noreturn void traced_child(char **argv, char **env, const char *input)
{
	int in = open(input, O_RDONLY);
	int out = open("/dev/null", O_WRONLY);

	if (in < 0 || out < 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		_exit(125);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	raise(SIGSTOP);
	execve(argv[0], argv, env);
	_exit(127);
}

/* A process stopped at PTRACE_EVENT_EXIT still has its memory. Returns 0 if it cannot be traced. */
static long traced_peak(char **argv, char **env, const char *input)
{
	long kib = 0;
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		die(1, "fork: %s", strerror(errno));
	if (pid == 0)
		traced_child(argv, env, input);
	if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status))
		return 0;
	ptrace(PTRACE_SETOPTIONS, pid, NULL,
	       (void *)(uintptr_t)(PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC));
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		int event = status >> 16;
		uintptr_t sig = event ? 0 : (uintptr_t)WSTOPSIG(status);

		if (event == PTRACE_EVENT_EXIT)
			kib = peak_of(pid);
		ptrace(PTRACE_CONT, pid, NULL, (void *)sig);
	}
	check_status(argv[0], status);
	return kib;
}

int main(int argc, char **argv)
{
	const char *library = NULL;
	const char *input = "/dev/null";
	struct result r = { 0 };
	posix_spawn_file_actions_t files;
	long runs = 1;
	int measure = 0;
	int opt;
	char **env;

	while ((opt = getopt(argc, argv, "+p:n:i:m")) != -1) {
		if (opt == 'p')
			library = optarg;
		else if (opt == 'n')
			runs = strtol(optarg, NULL, 10);
		else if (opt == 'i')
			input = optarg;
		else if (opt == 'm')
			measure = 1;
		else
			return 2;
	}
	argv += optind;
	if (!argv[0] || runs < 1)
		die(2, "usage: [-p LIBRARY] [-n RUNS] [-i FILE] [-m] -- PROGRAM ARGS...");
	env = environment(library);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, input, O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	for (long i = 0; i < runs; i++)
		run_once(argv, env, &files, &r);
	if (measure) {
		long kib = traced_peak(argv, env, input);

		r.peak_kib = kib ? kib : r.peak_kib;
	}
	printf("{\"ops\":%ld,\"ns\":%lu,\"cpu_ns\":%lu,\"ns_per_op\":%.1f,\"cpu_ns_per_op\":%.1f,"
	       "\"peak_kib\":%ld}\n",
	       runs, (unsigned long)r.wall_ns, (unsigned long)r.cpu_ns,
	       (double)r.wall_ns / (double)runs, (double)r.cpu_ns / (double)runs, r.peak_kib);
	free(env);
	return 0;
}
