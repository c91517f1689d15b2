#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# gdb --batch: symbols of a program, a breakpoint, a backtrace; the debugger and the program that it
# debugs both under the library.
. "${0%/*}/tap.sh"
need gdb
need gcc
plan 4

cat >"$TMP/program.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
static int deep(int n, char *p) { return n == 0 ? p[0] : deep(n - 1, p) + 1; }
int main(void) { char *p = calloc(1, 1000); int r = deep(50, p); free(p); printf("%d\n", r); return 0; }
C
gcc -g -O0 -o "$TMP/program" "$TMP/program.c" || bail_out "gcc cannot compile the test's program"

debug() {
	"$@" gdb --nx --batch -ex 'set startup-with-shell off' -ex 'set print address off' -ex 'set debuginfod enabled off' \
		-ex 'break deep if n == 0' -ex run -ex 'bt 60' -ex 'print *p@4' \
		-ex 'info functions deep' -ex continue "$TMP/program" 2>&1 |
		grep -v -E 'Thread debugging|libthread_db|Inferior|^warning'
}

want=$(debug env)
if ! printf '%s\n' "$want" | grep -q '^#50 '; then
	skip_all "gdb cannot debug a program here: $(printf '%s\n' "$want" | tail -n 1)"
fi
out=$(debug with_sluice)
is "$out" "$want" "gdb says the same as without the library"
like "$out" '^#50 ' "with a backtrace of 51 frames"
proved_loaded "gdb was served by the library" gdb
proved_loaded "the program that it debugs was served by the library" program
