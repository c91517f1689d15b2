#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs that are linked with the archive: statically, with -static and -static-pie, and not.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
need gcc
need g++

archive=$builddir/.libs/libsluice.a
[ -e "$archive" ] || skip_all "there is no archive (configured with --disable-static)"
echo 'int main(void) { return 0; }' >"$TMP/empty.c"
if nm "$archive" 2>/dev/null | grep -q __gcov_merge_add; then
	skip_all "the archive counts for gcov, and needs its library"
fi
gcc -static -o "$TMP/empty" "$TMP/empty.c" 2>/dev/null || skip_all \
	"there is no C library to link statically"
plan 44

# link OUTPUT COMPILER SOURCE FLAGS...: the linker has nothing to say.
link() {
	link_out=$1
	link_with=$2
	link_source=$srcdir/t/helpers/$3
	shift 3
	said=$("$link_with" -O1 -fno-builtin -pthread -I"$srcdir/include" -I"$srcdir/t" \
		-o "$TMP/$link_out" "$link_source" "$@" 2>&1)
	is "$? $said" "0 " \
		"$link_with $(printf '%s ' "$@" | sed "s|$builddir/||g"): links without a warning"
}

# runs NAME WANT LABEL
runs() {
	out=$(timeout 100 "$TMP/$1" all 2>&1)
	like "$out, status $?" "$2" "$3"
}

# begins NAME LABEL: the linker has taken what begins and ends the library, too.
begins() {
	rm -f "$TMP/stats"
	SLUICE_CONF=stats_file:$TMP/stats timeout 60 "$TMP/$1" none >/dev/null 2>&1
	like "$(cat "$TMP/stats" 2>&1)" 'slabs_made=[1-9]' "$2: stats_file is written at exit"
}

# hardened NAME LABEL
hardened() {
	out=$(SLUICE_CONF=profile:hardened timeout 60 "$TMP/$1" beyond 2>&1)
	like "$?, $out" '^134, sluice: fatal: object written to beyond its end' \
		"$2: profile:hardened notices a write beyond a block"
}
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

for how in -static -static-pie; do
	link c gcc static.c $how "$archive"
	runs c "$passed" "$how: threads of both kinds allocate, and a fork's child makes one"
	begins c "$how"
	hardened c "$how"
	out=$(timeout 60 "$TMP/c" twice 2>&1)
	like "$?, $(printf '%s' "$out" | tr '\n' ' ')" \
		'^134, sluice: fatal: .*sluice: +(#0|no backtrace: )' \
		"$how: a second free is fatal, and a missing backtrace is reported"
	for catch in 1 2 3; do
		link cc g++ static.cc $how -DCATCH=$catch "$archive"
		runs cc '^0 faults, status 0$' \
			"$how: what is thrown without memory is caught, and nothrow is NULL"
	done
	link cc g++ static.cc $how -DCATCH=1 -DHANDLER "$archive"
	runs cc '^0 faults, status 0$' "$how: a new_handler is called"
	link cc g++ replaced.cc $how -std=c++17 "$archive"
	runs cc '^0 faults, status 0$' "$how: a program may have operators of its own"
done
for how in -static -rdynamic; do
	link c gcc static.c $how -Wl,--whole-archive "$archive" -Wl,--no-whole-archive
	runs c "$passed" "$how: the program works with all of the archive, and no C++ runtime"
done
link c gcc static.c "$archive"
runs c "$passed" "the archive works in a program that is not linked statically"
begins c "the archive in a program that is not linked statically"
hardened c "the archive in a program that is not linked statically"
link cc g++ static.cc -DCATCH=3 -DHANDLER "$archive"
runs cc '^0 faults, status 0$' "the archive works in a C++ program that is not linked statically"
echo 'int main() { delete new int; return 0; }' >"$TMP/new.cc"
g++ -O0 -o "$TMP/new" "$TMP/new.cc" "$archive" >"$TMP/err" 2>&1
begins new "the archive in a C++ program that calls no malloc"
cat >"$TMP/lto.c" <<'C'
#include <pthread.h>
#include <stdlib.h>
static void *run(void *p) { free(p); return malloc(10); }
int main(void)
{
	pthread_t t;
	void *p = NULL;
	int err = pthread_create(&t, NULL, run, malloc(10)) || pthread_join(t, &p);

	free(p);
	return err;
}
C
gcc -O0 -flto -static -pthread -o "$TMP/lto" "$TMP/lto.c" "$archive" >"$TMP/err" 2>&1
begins lto "the archive in a program with -static -flto, where threads bring malloc"

cat >"$TMP/frames.cc" <<'CC'
#include <cstdlib>
__attribute__((noinline)) static void stopped(void *p) { free(p); free(p); }
int main(int argc, char **)
{
	void *volatile p = malloc(argc);
	try { stopped(p); } catch (...) { }
	return 0;
}
CC
g++ -O0 -fno-builtin -g -static-pie -o "$TMP/frames" "$TMP/frames.cc" "$archive" 2>"$TMP/err"
out=$("$TMP/frames" 2>&1)
if ! with_libunwind || ! command -v addr2line >/dev/null; then
	skip "a C++ program has a backtrace for addr2line" \
		"built without libunwind, or no addr2line"
else
	# shellcheck disable=SC2046 # one address a word
	like "$(addr2line -f -e "$TMP/frames" $(printf '%s\n' "$out" |
		sed -n 's/^sluice:   #[0-9]* \(0x[0-9a-f]*\) .*/\1/p'))" \
		'stopped' "a C++ program has a backtrace for addr2line"
fi
like "$out" '^sluice: fatal: ' "the backtrace comes after the line that says what is wrong"
