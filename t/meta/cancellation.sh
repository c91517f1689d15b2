#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Nothing in the library calls a function of libc that is a cancellation point: see src/base/sys.h.
# A thread with a cancel pending would end there, with whatever it holds.
. "${0%/*}/../lib/tap.sh"
need nm binutils
plan 6

# What POSIX names, what it allows (stdio, directories), and glibc's own.
names='accept accept4 aio_suspend aio_suspend_time64 clock_nanosleep close closefrom connect
copy_file_range creat epoll_pwait epoll_pwait2 epoll_wait fallocate fcntl fdatasync flock
futimens ioctl lseek posix_fadvise pthread_rwlock_rdlock pthread_rwlock_wrlock
pthread_tryjoin_np semop fsync getrandom io_getevents lockf mq_receive mq_send mq_timedreceive
mq_timedsend msgrcv msgsnd msync nanosleep open open_by_handle_at openat pause poll
posix_fallocate ppoll pread preadv preadv2 pselect pthread_clockjoin_np pthread_cond_clockwait
pthread_cond_timedwait pthread_cond_wait pthread_join pthread_testcancel pthread_timedjoin_np
pwrite pwritev pwritev2 read readv recv recvfrom recvmmsg recvmsg select sem_clockwait
sem_timedwait sem_wait send sendfile sendmmsg sendmsg sendto sigpause sigsuspend sigtimedwait
sigwait sigwaitinfo sleep splice sync sync_file_range tcdrain tee thrd_join thrd_sleep cnd_wait
cnd_timedwait mtx_lock usleep vmsplice wait wait3 wait4 waitid waitpid write writev
asprintf dprintf fclose fdopen fflush fgetc fgets fopen fprintf fputc fputs fread freopen fscanf
fseek fseeko ftell ftello fwrite getc getchar getdelim getline pclose perror popen printf putc
putchar puts scanf setvbuf ungetc vasprintf vdprintf vfprintf vprintf closedir fdopendir ftw
glob nftw opendir readdir readdir_r rewinddir scandir seekdir telldir mkstemp mkostemp tmpfile
system posix_spawn posix_spawnp closelog openlog syslog vsyslog getaddrinfo gethostbyname
getnameinfo getpwnam getpwuid getgrnam getgrgid'
# shellcheck disable=SC2086 # one a line
printf '%s\n' $names >"$TMP/names"

# plain_names: of symbols on standard input, without version, underscores in front, _chk, 64,
# _nocancel, _unlocked.
plain_names() {
	sed -E \
		's/@.*//; s/^_+(libc_|isoc[0-9]+_|IO_)?//; s/_chk$//; s/_2$//; s/(_time)?64$//;
			s/_unlocked$//' |
		LC_ALL=C sort -u
}

# forbidden FILE [ALLOWED]: the names of the list that FILE asks others for.
forbidden() {
	# shellcheck disable=SC2086 # an option, or none
	nm ${3-} --undefined-only "$1" 2>/dev/null | awk 'NF == 2 { print $2 }' >"$TMP/undefined"
	plain_names <"$TMP/undefined" | grep -x -F -f "$TMP/names" |
		grep -v -x -F -e "${2:-none}" | tr '\n' ' '
}

# calls FILE...: "FILE:LINE: text" of each call by name, comments and strings left out.
calls() {
	awk -v names="$names" '
	BEGIN {
		n = split(names, list, /[ \n]+/)
		for (i = 1; i <= n; i++)
			bad[list[i]] = 1
	}
	FNR == 1 { comment = 0 }
	{
		text = $0
		gsub(/"([^"\\]|\\.)*"/, "\"\"", text)
		if (comment) {
			if (!match(text, /\*\//))
				next
			text = substr(text, RSTART + 2)
			comment = 0
		}
		while (match(text, /\/\*/)) {
			from = RSTART
			rest = substr(text, from + 2)
			if (!match(rest, /\*\//)) {
				comment = 1
				text = substr(text, 1, from - 1)
				break
			}
			text = substr(text, 1, from - 1) " " substr(rest, RSTART + 2)
		}
		while (match(text, /[A-Za-z_][A-Za-z0-9_]*[ \t]*\(/)) {
			name = substr(text, RSTART, RLENGTH)
			before = RSTART > 1 ? substr(text, RSTART - 1, 1) : " "
			sub(/[ \t]*\($/, "", name)
			text = substr(text, RSTART + RLENGTH)
			if ((name in bad) && before !~ /[.>]/ &&
			    !(name == "fwrite" && FILENAME ~ /malloc_info\.c$/))
				print FILENAME ":" FNR ": " name \
					" is a cancellation point of libc, use src/base/sys.h"
		}
	}' "$@"
}

cat >"$TMP/planted.c" <<'EOF'
/* read(1) */ int f(int fd) { return
	(int)fcntl (fd, 1) + sys_read(fd) + x->poll(1) + g("open(2)"); }
EOF
is "$(calls "$TMP/planted.c")" \
	"$TMP/planted.c:2: fcntl is a cancellation point of libc, use src/base/sys.h" \
	"a call in the source is found, and nothing else"
is "$(printf '%s\n' __read_chk open64@GLIBC_2.2.5 __libc_fcntl64 __poll fputs_unlocked sys_open \
	readlink |
	plain_names | grep -x -F -f "$TMP/names" | tr '\n' ' ')" "fcntl fputs open poll read " \
	"symbols are recognized by any of their names"

is "$(cd "$srcdir" && calls src/*.h src/*/*.[ch])" "" "no source file calls a cancellation point"

# malloc_info writes to the program's stream, with cancelling off.
is "$(forbidden "$SLUICE_LIB" fwrite -D)" "" "the library needs no cancellation point of libc"
core=$builddir/.libs/libsluice-core.a
[ "$(nm --undefined-only "$core" 2>/dev/null | grep -c -w sluice_syscall)" -gt 3 ]
ok $? "the archive of the core can be read"
is "$(forbidden "$core")" "" "the core needs no cancellation point of libc"
