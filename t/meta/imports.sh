#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What the library takes from others by name. A program may have functions and variables of its own
# with names that ISO C and POSIX do not reserve, and libraries replace functions of libc: see
# src/base/sys.h. glibc on x86-64 and arm64.
. "${0%/*}/../lib/tap.sh"
need readelf binutils
need nm binutils
! nm "$SLUICE_LIB" 2>/dev/null | grep -q __gcov_ ||
	skip_all "the library counts for gcov, and needs more"
plan 5

# Of ISO C.
iso='abort fwrite getenv memchr memcmp memcpy memmove memset strchr strcmp strcspn strlen strncmp
strpbrk strspn strstr strtoul thrd_create'
# Of POSIX (dladdr from 2024 on). What ISO C leaves to programs is here only if it is not one system
# call, or is wanted as others have it (faketime's clock).
posix='clock_gettime dladdr dlclose dlsym environ getrlimit kill pthread_attr_destroy
pthread_attr_init pthread_attr_setdetachstate pthread_attr_setinheritsched
pthread_attr_setschedparam pthread_attr_setschedpolicy pthread_attr_setstacksize
pthread_getcpuclockid pthread_key_create pthread_mutex_lock pthread_mutex_unlock pthread_once
pthread_self pthread_setcancelstate pthread_setspecific pthread_sigmask setrlimit sigaction
sigdelset sigfillset'
# Exported by the library itself and called by the name on purpose: the program's own of that name
# is wanted (operators, pthread_create), or asked about (malloc, free), or the name is ours.
own='free malloc pthread_create realloc'
# shellcheck disable=SC2086 # one a line
printf '%s\n' $iso $posix $own | LC_ALL=C sort >"$TMP/allowed"

# asked_for FILE: the names in its relocations, without version. Names that begin with an underscore
# are reserved; the library's own with its prefix are nobody else's.
asked_for() {
	readelf -rW "$1" | awk '$3 ~ /^R_/ && $5 ~ /^[A-Za-z_]/ { sub(/@.*/, "", $5); print $5 }' |
		grep -v -E '^(_|sluice_)' | LC_ALL=C sort -u
}
asked_for "$SLUICE_LIB" >"$TMP/asked"
[ "$(wc -l <"$TMP/asked")" -gt 20 ] && grep -q -x memcpy "$TMP/asked"
ok $? "what the library asks others for can be read"
is "$(LC_ALL=C comm -23 "$TMP/asked" "$TMP/allowed" | tr '\n' ' ')" "" \
	"it asks for nothing whose name a program may have for something else"

# Each object for itself, whatever the linker makes of it.
core=$builddir/.libs/libsluice-core.a
objects=$(find "$builddir/src/shim/.libs" -name 'libsluice_la-*.o' 2>/dev/null)
# shellcheck disable=SC2086 # file names without spaces below the build directory
undefined() {
	nm --undefined-only "$core" $objects 2>/dev/null | awk 'NF == 2 { print $2 }'
}
[ "$(undefined | grep -c -x sluice_syscall)" -gt 10 ]
ok $? "what its objects ask for can be read"
is "$(undefined | grep -x syscall)" "" "none of them calls a function named syscall"
is "$(undefined | grep -x -E 'abort|raise|exit|_exit|_Exit|quick_exit')" "" \
	"none of them leaves it to a function of libc to end the program"
