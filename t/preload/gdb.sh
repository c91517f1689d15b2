#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# gdb --batch: symbols of a program, a breakpoint, a backtrace; the debugger and the program that it
# debugs both under the library.
. "${0%/*}/../lib/tap.sh"
need gdb
need gcc
need pgrep procps
plan 6

cat >"$TMP/program.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
static int deep(int n, char *p) { return n == 0 ? p[0] : deep(n - 1, p) + 1; }
int main(void)
{
	char *p = calloc(1, 1000);
	int r = deep(50, p);
	free(p);
	printf("%d\n", r);
	return 0;
}
C
gcc -g -O0 -o "$TMP/program" "$TMP/program.c" || bail_out "gcc cannot compile the test's program"

debug() {
	"$@" gdb --nx --batch -ex 'set startup-with-shell off' -ex 'set print address off' \
		-ex 'set debuginfod enabled off' \
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
like "$out" '^#50 ' "gdb prints a backtrace of 51 frames"
proved_loaded "gdb was served by the library" gdb
proved_loaded "the program that it debugs was served by the library" program

# gcore writes what is mapped: of a program with 100 MiB not much more than that. A larger file is
# cut.
cat >"$TMP/waits.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void)
{
	for (int i = 0; i < 100 << 10; i++)
		memset(malloc(1024), 1, 1024);
	puts("ready");
	fflush(stdout);
	return getchar() == EOF;
}
C
gcc -O0 -o "$TMP/waits" "$TMP/waits.c" || bail_out "gcc cannot compile the test's program"
mkfifo "$TMP/in" "$TMP/out"
with_sluice "$TMP/waits" <"$TMP/in" >"$TMP/out" &
exec 3>"$TMP/in" 4<"$TMP/out"
read -r _ <&4
pid=$(pgrep -n -f "^$TMP/waits")
(
	ulimit -f 614400 # 300 MiB
	gdb --nx --batch -ex 'set debuginfod enabled off' -p "$pid" -ex "gcore $TMP/core"
) >"$TMP/gcore" 2>&1
bytes=$(wc -c <"$TMP/core")
echo >&3
exec 3>&- 4<&-
wait
if [ ! -s "$TMP/core" ]; then
	skip "gcore writes not much more than the program has" \
		"gdb cannot attach here: $(tail -n 1 "$TMP/gcore")"
else
	ok "$(test "$bytes" -lt $((250 << 20)); echo $?)" \
		"gcore writes not much more than the program has ($bytes bytes)"
fi
proved_loaded "the program was served by the library" waits
