#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# gdb --batch: symbols of a program, a breakpoint, a backtrace; the debugger and the program that it
# debugs both under the library. And our commands of gdb (tools/gdb/sluice.py), on processes and on
# cores of them.
#
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
need gdb
need gcc
need pgrep procps
plan 39
. "${0%/*}/../lib/start.sh"

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

# ---- our commands ----

if ! readelf -S "$SLUICE_LIB" | grep -q '[.]debug_info'; then
	for label in $(seq 30); do
		skip "our commands say what they should ($label)" "the library was built without -g"
	done
	exit
fi

# asks WHERE LINES: runs commands in gdb; WHERE is `-p PID` or `PROGRAM CORE`.
asks() {
	printf '%s\n' "$2" >"$TMP/asked"
	# shellcheck disable=SC2086
	gdb --nx --batch -iex 'set debuginfod enabled off' -iex 'set auto-load no' \
		-iex "source $srcdir/tools/gdb/sluice.py" $1 -x "$TMP/asked" 2>"$TMP/asks.err" |
		sed -n '/^== /,$p'
}

# part NAME: what was printed behind `echo == NAME`, of $out.
part() {
	printf '%s\n' "$out" | sed -n "/^== $1\$/,/^== /p" | grep -v '^== '
}

cat >"$TMP/known.c" <<'C'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
char *live, *binned, *far, *large, *freed_large, *long_run, *huge, *many[2000], *ended,
	*posted[64];
void **holder;
static char none;
char *nowhere = &none;
static void *other(void *arg)
{
	free(far);
	puts("ready");
	fflush(stdout);
	pause();
	return arg;
}
static void *ends(void *arg)
{
	ended = malloc(1500);
	for (int i = 0; i < 32; i++)
		free(posted[i]);
	return arg;
}
int main(void)
{
	pthread_t t;
	live = strcpy(malloc(100), "a needle");
	holder = malloc(24);
	*holder = live;
	binned = malloc(200);
	free(binned);
	far = malloc(300);
	large = malloc(100000);
	freed_large = malloc(50000);
	free(freed_large);
	long_run = malloc(5000000);
	huge = malloc(50000000);
	for (int i = 0; i < 2000; i++)
		many[i] = malloc(700);
	for (int i = 0; i < 2000; i += 2)
		free(many[i]);
	for (int i = 0; i < 64; i++)
		posted[i] = malloc(2000);
	pthread_create(&t, NULL, ends, NULL);
	pthread_join(t, NULL);
	pthread_create(&t, NULL, other, NULL);
	pthread_join(t, NULL);
	return 0;
}
C
gcc -g -O0 -pthread -o "$TMP/known" "$TMP/known.c" ||
	bail_out "gcc cannot compile the test's program"
start process early_checks:0,early_guards:0,warm_heaps:0 "$TMP/known"
until grep -q ready "$TMP/process"; do sleep 0.05; done

lines='echo == live\n
sluice block live + 5
echo == binned\n
sluice block binned
echo == far\n
sluice block far
echo == ended\n
sluice block ended
echo == posted\n
sluice block posted[2]
echo == kept\n
sluice block posted[40]
echo == large\n
sluice block large + 70000
echo == freed_large\n
sluice block freed_large
echo == huge\n
sluice block huge + 1
echo == nowhere\n
sluice block nowhere
echo == slab\n
sluice slab live
echo == pointer\n
sluice find live
echo == text\n
sluice find "a needle"
echo == heap\n
sluice heap PID
echo == buddy\n
sluice buddy
echo == summary\n
sluice summary
echo == end\n'
lines=$(printf '%s\n' "$lines" | sed "s/PID/$pid/")
out=$(asks "-p $pid" "$lines
gcore $TMP/known.core")
if [ ! -s "$TMP/known.core" ]; then
	diag "$(cat "$TMP/asks.err")"
fi
process=$(printf '%s\n' "$out" | sed '/^== end/,$d')
like "$(part live)" "^object 0x[0-9a-f]+, 112 bytes .class [0-9]+., offset 5: live$" \
	"block finds the live object that an address lies in"
like "$(part live)" "owned by thread $pid$" "and the thread that it is of"
like "$(part binned)" ": free, in the cache bin of thread $pid$" \
	"block finds a freed object in a cache bin"
like "$(part far)" ": free, in the outbox of thread [0-9]+$" \
	"block finds an object that another thread freed"
like "$(part ended)" "abandoned, in the pool of its class$" "block knows a slab that nobody owns"
like "$(part posted)" ": freed by another thread, on the remote list of its slab$" \
	"block finds an object that a thread freed which has ended"
like "$(part kept)" ": live$" "block finds its neighbour live"
like "$(part large)" "^large object 0x[0-9a-f]+, 112.0 KiB, offset 70000: live$" \
	"block finds a large object"
like "$(part freed_large)" "^large object .*: free, in the cache bin of thread $pid$" \
	"and one that was freed"
like "$(part huge)" "^huge object 0x[0-9a-f]+, 47.7 MiB, offset 1: live$" \
	"block finds a huge object"
is "$(part nowhere)" "not memory that Sluice hands out" "block says of other memory that it is"
like "$(part slab)" "^live 1, in bins [0-9]+, in outboxes 0, " "slab counts its objects"
is "$(part pointer | wc -l), $(part pointer | grep -c ', 32 bytes (class 1), offset 0$')" "2, 1" \
	"find finds the one object that points to another"
like "$(part text)" "112 bytes .class [0-9]+., offset 0$" "find finds a text"
like "$(part heap)" "^ +[0-9]+ +65536 +1 " "heap shows the bins of a thread"
pages=$(part buddy | awk '/ usable/ { n = $6 } /^ +[0-9]/ { sum += $2 * ($3 + $4 + $5) }
	END { print n, sum }')
is "${pages% *}" "${pages#* }" "buddy lists as many pages as the zone counts"
like "$(part summary)" "^live huge objects +50003968 " "summary has the bytes of huge objects"
is "$(part summary | awk '/^ +704 / { print $3 }')" 1000 \
	"and of each size class those that are live"
is "$(printf '%s\n' "$out" | grep '^note')" "" "no list is found broken"

if [ -s "$TMP/known.core" ]; then
	is "$(asks "$TMP/known $TMP/known.core" "$lines" | sed '/^== end/,$d')" "$process" \
		"of a core the commands say the same"
else
	skip "of a core the commands say the same" "gcore wrote none"
fi

# The program writes to an object that is on the free list of its slab.
like "$(asks "-p $pid" 'echo == broken\n
python
for i in range(0, 2000, 2):
    line = gdb.execute("sluice block many[%d]" % i, to_string=True)
    if "on the list of its slab" in line:
        break
end
python gdb.execute("set {long} many[%d] = 99" % i)
python gdb.execute("sluice slab many[%d]" % i)')" \
	"^note: slab at 0x[0-9a-f]+: a link of a free object is broken" "a broken link is noticed"

# For most of these gdb would call something in the program.
out=$(asks "-p $pid" 'echo == refused\n
python
for asked in ("find \"\"", "find \"", "block \"abc\"", "block other(0)", "block {1,2,3}", "slab (",
              "block nosuch", "buddy 3", "summary all"):
    try:
        gdb.execute("sluice " + asked)
    except gdb.error as e:
        gdb.write(str(e) + "\n")
end
show may-call-functions
echo == end\n')
is "$(part refused)" 'an empty text is everywhere
": a text is no address
"abc": a text is no address
other(0): Cannot call functions in the program: may-call-functions is off.
{1,2,3}: Cannot call functions in the program: may-call-functions is off.
(: A syntax error in expression, near `'")'"'.
nosuch: No symbol "nosuch" in current context.
usage: sluice buddy
usage: sluice summary
Permission to call functions in the program is on.' \
	"nothing is called, and what is no expression is one line"
kill "$pid"

# Options change where free objects are, and give some objects pages of their own.
cat >"$TMP/modes.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
char *live[300], *freed[300];
int main(void)
{
	setvbuf(stdout, NULL, _IONBF, 0); /* puts allocates nothing */
	for (int i = 0; i < 300; i++) {
		live[i] = strcpy(malloc(48), "lively");
		freed[i] = strcpy(malloc(48), "lively");
	}
	for (int i = 0; i < 300; i++)
		free(freed[i]);
	free(malloc(100000));
	puts("ready");
	fflush(stdout);
	return pause();
}
C
gcc -g -O0 -fno-builtin -o "$TMP/modes" "$TMP/modes.c" ||
	bail_out "gcc cannot compile the test's program"
for settings in early_checks:1 profile:hardened check:full guard_sample:10 \
	prof:true,prof_sample:1K; do
	start "mode-${settings%%:*}" "$settings" "$TMP/modes"
	until grep -q ready "$TMP/mode-${settings%%:*}"; do sleep 0.05; done
	out=$(asks "-p $pid" 'echo == all\n
python
for name in "live", "freed":
    n = 0
    for i in range(300):
        out = gdb.execute("sluice block %s[%d]" % (name, i), to_string=True)
        n += out.splitlines()[0].endswith(": live")
        if i and name == "live" and "sampled" in out:
            print(out.splitlines()[0])
    print("%s %d," % (name, n))
end
sluice find "lively"
echo == heap\n
sluice heap '"$pid"'
echo == summary\n
sluice summary')
	is "$(part all | sed -n 's/^\([a-z]* [0-9]*,\)$/\1/p; s/^\([0-9]* in live\) .*/\1/p' |
		tr '\n' ' ')" "live 300, freed 0, 300 in live " \
		"block and find are right with $settings"
	if [ "$settings" = profile:hardened ]; then
		is "$(part heap | grep -c '^quarantine: [0-9]* objects$') $(part summary |
			awk '/^live/ { of = $2 } /in quarantine/ && of == "large" { print $4 }')" \
			"1 114688" "heap and summary show the quarantine"
	fi
	if [ "$settings" = prof:true,prof_sample:1K ]; then
		like "$(part all | grep sampled | head -n 1)" \
			'^sampled object 0x[0-9a-f]*, 48 bytes, offset 0: live$' \
			"block says which large object is a sampled small one"
	fi
	kill "$pid"
done

# Without its debug information the library says nothing of its structures.
strip -o "$TMP/libsluice.so" "$SLUICE_LIB"
saved=$SLUICE_LIB
SLUICE_LIB=$TMP/libsluice.so
start stripped "" sleep 600
SLUICE_LIB=$saved
asks "-p $pid" 'sluice summary' >/dev/null
like "$(cat "$TMP/asks.err")" "libsluice.so has no debug information, which these commands need" \
	"a stripped library is said to be one"
kill "$pid"

# A real program, and its own statistics.
if ! command -v redis-server >/dev/null 2>&1; then
	for label in "find finds a value in a core of redis" \
		"summary agrees with what redis was told" "find knows that a value was freed"; do
		skip "$label" "redis-server is not installed"
	done
	exit
fi
start redis "" redis-server --port 0 --unixsocket "$TMP/sock" --dir "$TMP" --save ''
cli() {
	redis-cli -s "$TMP/sock" "$@"
}
until [ "$(cli ping 2>/dev/null)" = PONG ]; do sleep 0.1; done
awk 'BEGIN { for (i = 0; i < 20000; i++) printf "SET key:%d %0*d\r\n", i, i % 500 + 1, i }' |
	cli --pipe >/dev/null
cli set secret "pin in a haystack" >/dev/null
told=$(cli memory malloc-stats | sed -n 's/^Allocated: \([0-9]*\),.*/\1/p')
asks "-p $pid" "gcore $TMP/redis.core" >/dev/null
out=$(asks "$(command -v redis-server) $TMP/redis.core" 'echo == find\n
sluice find "pin in a haystack"
echo == summary\n
sluice summary')
like "$(part find)" "^0x[0-9a-f]+: object 0x[0-9a-f]+, " \
	"find finds a value in a core of redis"
seen=$(part summary | sed -n 's/^live [a-z]* objects *\([0-9]*\) .*/\1/p' |
	awk '{ n += $1 } END { print n }')
awk -v a="$seen" -v b="$told" 'BEGIN { exit a < b * 0.98 || a > b * 1.02 }'
ok $? "summary agrees within 2 % with what redis was told ($seen, $told)"
cli set secret "" >/dev/null
out=$(asks "-p $pid" 'echo == find\n
sluice find "pin in a haystack"')
like "$(part find)" "^0 in live objects" "find knows that a value was freed"
kill "$pid"
wait
