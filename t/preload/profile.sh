#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# prof: the heap profile says where the memory of a known program is, to jeprof as well; samplers
# survive forks, dlopen and threads; files come when options ask for them.
#
# TIMEOUT: 400
. "${0%/*}/../lib/tap.sh"
need_stacks
plan 55
tmpdir

prog=$builddir/t/helpers/profile
module=$builddir/t/helpers/.libs/plugin.so

# profiled CONF ARGS...: runs the helper
profiled() {
	conf=$1
	shift
	out=$(SLUICE_CONF=$conf with_sluice "$prog" "$@" 2>"$TMP/err")
	is "$? $(printf '%s\n' "$out" | tail -n 1 | sed 's/[0-9]* checks, //')" "0 0 failed" \
		"$conf: ${1} works"
	diag "$(cat "$TMP/err")"
}

# near HAVE WANT LABEL: within 10 %, as sampling at 16 KiB gives by far
near() {
	awk -v have="$1" -v want="$2" 'BEGIN { exit !(have > want * 0.9 && have < want * 1.1) }'
	ok $? "$3"
	diag "$1, of $2"
}

profiled prof:true,prof_sample:16K known "$TMP/heap"
proved_loaded "the library was loaded"
like "$(head -n 1 "$TMP/heap")" '^heap_v2/16384$' "the file says what it is"
like "$(sed -n '/^MAPPED_LIBRARIES:$/,$p' "$TMP/heap")" ' r-xp .*/t/helpers/' \
	"the file has the mappings of the program"

if command -v jeprof >/dev/null 2>&1; then
	real=$prog
	[ ! -x "$builddir/t/helpers/.libs/profile" ] || real=$builddir/t/helpers/.libs/profile
	jeprof --text --show_bytes "$real" "$TMP/heap" >"$TMP/live" 2>/dev/null
	jeprof --text --show_bytes --alloc_space "$real" "$TMP/heap" >"$TMP/ever" 2>/dev/null
	# of FILE SITE: its bytes
	of() {
		awk -v site="$2" '$NF == site { print $1 }' "$TMP/$1"
	}
	near "$(of live site_small)" 48000000 "jeprof: live small objects, of their function"
	near "$(of live site_large)" 81920000 "jeprof: live large objects"
	near "$(of live site_grown)" 67108864 "jeprof: a live object that realloc made large"
	is "$(of live site_freed)" "" "jeprof: freed objects are not live"
	near "$(of ever site_freed)" 256000000 "jeprof: all that was allocated"
	if command -v dot >/dev/null 2>&1; then
		jeprof --svg "$real" "$TMP/heap" >"$TMP/svg" 2>/dev/null
		# drawn SITE: the bytes in its box, which has MiB
		drawn() {
			sed -n "/>$1</,/%)</s/.*>\([0-9.]*\) (.*%).*/\1/p" "$TMP/svg" |
				awk '{ print $1 * 1048576 }'
		}
		for want in small:48000000 large:81920000 grown:67108864; do
			near "$(drawn "site_${want%:*}")" "${want#*:}" \
				"jeprof --svg: the box of site_${want%:*}"
		done
	else
		for what in small large grown; do
			skip "jeprof --svg: $what" "dot is not installed (graphviz)"
		done
	fi
else
	for what in small large grown freed all svg-small svg-large svg-grown; do
		skip "jeprof: $what" "jeprof is not installed (libjemalloc-dev)"
	done
fi

# sluice-prof, by the names that addr2line finds.
tool=$builddir/tools/sluice-prof
# prof ARGS...: a table, in fields between tabs
prof() {
	"$tool" "$@" 2>&1 | sed 's/^ *//; s/   */\t/g'
}
# field N SITE: of the table in $out
field() {
	printf '%s\n' "$out" | awk -F '\t' -v n="$1" -v site="$2" '
		$NF ~ "^" site { sum += $n } END { print sum + 0 }'
}
if command -v addr2line >/dev/null 2>&1; then
	out=$(prof "$TMP/heap")
	near "$(field 1 site_small)" 48000000 "sluice-prof: live small objects"
	near "$(field 1 site_large)" 81920000 "sluice-prof: live large objects"
	out=$(prof --what ever "$TMP/heap")
	near "$(field 1 site_freed)" 256000000 "sluice-prof: all that was allocated"
	out=$("$tool" --format folded "$TMP/heap")
	near "$(printf '%s\n' "$out" | awk '/;main;(known;)?site_small / { print $NF }')" 48000000 \
		"folded stacks begin outside"
	pprof=$(find /usr/lib/go*/pkg/tool/*/pprof 2>/dev/null | head -n 1)
	if [ -n "$pprof" ]; then
		"$tool" --format pprof -o "$TMP/pb.gz" "$TMP/heap"
		for want in inuse_space:site_small:48000000 inuse_space:site_large:81920000 \
			alloc_space:site_freed:256000000; do
			sample=${want%%:*} rest=${want#*:}
			"$pprof" -sample_index="$sample" -unit=b -top "$TMP/pb.gz" >"$TMP/pb" \
				2>/dev/null
			near "$(awk -v site="${rest%:*}" '$NF == site { print $1 + 0 }' \
				"$TMP/pb")" "${rest#*:}" "pprof: ${rest%:*}, $sample"
		done
	else
		for what in small large freed; do
			skip "pprof: $what" "pprof is not installed (golang-go)"
		done
	fi

	truth=$(SLUICE_CONF=prof:true,prof_sample:8K with_sluice "$prog" lives "$TMP/lives" |
		head -n 1)
	out=$(prof --format lifetimes "$TMP/lives" |
		sed 's/ us\t/e3\t/g; s/ ms\t/e6\t/g; s/ s\t/e9\t/g')
	for want in "site_small ${truth% *}" "site_large ${truth#* }"; do
		awk -v have="$(field 2 "${want% *}")" -v want="${want#* }" \
			'BEGIN { exit !(have > want * 0.85 && have < want * 1.15) }'
		ok $? "the lifetimes of ${want% *} are right within 15 %"
		diag "$(field 2 "${want% *}"), of $want"
	done

	SLUICE_CONF=prof:true,prof_sample:8K,psi:0,cgroup:0 with_sluice "$prog" idle \
		"$TMP/idle" >/dev/null
	out=$(prof --what idle "$TMP/idle")
	near "$(field 1 site_small)" 36000000 "memory of threads that sleep is found"
	is "$(field 1 site_large)" 0 "and memory of one that works is not among it"
	SLUICE_CONF=prof:true,prof_sample:8K,psi:0,cgroup:0,idle_ms:2000 with_sluice "$prog" paged \
		"$TMP/idle" >/dev/null
	out=$(prof --what idle "$TMP/idle")
	near "$(field 1 site_small)" 167772160 "the same of threads that have mappings only"
	is "$(field 1 site_large)" 0 "of which one works"

	profiled prof:true,prof_sample:8K,prof_thread_active_init:0 threaded "$TMP/heap"
	out=$(prof --what ever "$TMP/heap")
	near "$(field 1 site_small)" 10240000 "a thread that asks is in the profile"
	near "$(field 1 site_large)" 10240000 "so is one for which it is set"
	is "$(field 1 site_freed)" 0 "others are not"

	pinned=$(SLUICE_CONF=prof:true,prof_sample:4K,psi:0,cgroup:0 with_sluice "$prog" pins \
		"$TMP/pins" | head -n 1)
	out=$(prof --what pinned "$TMP/pins")
	awk -v have="$(field 1 site_small)" -v want="$pinned" \
		'BEGIN { exit !(have > want * 0.7 && have < want * 1.3) }'
	ok $? "what pins slabs is found"
	diag "$(field 1 site_small), of $pinned; site_large: $(field 1 site_large)"
else
	for what in small large ever folded pprof-small pprof-large pprof-freed life-small \
		life-large idle busy idle-large busy-large threads threads-small threads-large \
		threads-freed pins; do
		skip "sluice-prof: $what" "addr2line is not installed (binutils)"
	done
fi

# refused STATUS REGEX LABEL ARGS...: one line, which matches
refused() {
	want=$1 regex=$2 label=$3
	shift 3
	out=$("$tool" "$@" 2>&1)
	is "$? $(printf '%s\n' "$out" | wc -l | tr -d ' ') $(printf '%s\n' "$out" |
		grep -c -E "$regex")" "$want 1 1" "$label"
}
printf 'heap_v2/16384\n  t*: 1: 2 [3: 4]\n' >"$TMP/cut"
refused 1 "ends too early" "a profile that was cut is refused" "$TMP/cut"
refused 1 "not a heap profile" "another file is refused" "$prog"
refused 1 "No such file" "so is one that is not there" "$TMP/none"
refused 2 "has all of them" "arguments that do not fit are refused" --format pprof --what idle x

profiled prof:true,prof_sample:2M stepped "$TMP/heap"
# estimated SAMPLE LEAST MOST: whether live memory, each sample for as many as it stands for, is
# between that many MiB
estimated() {
	awk -v rate="$1" -v least="$2" -v most="$3" '/^  t\*:/ {
			n = $2 + 0
			bytes = $3 + 0
			live = n ? bytes / (1 - exp(-bytes / n / rate)) / 1048576 : 0
			print "# live: " live " MiB"
			exit !(live > least && live < most)
		}' "$TMP/heap" >&2
}
estimated 2097152 150 400
ok $? "objects that realloc grew in place count once"
profiled prof:true,prof_sample:64K shrunk "$TMP/heap"
estimated 65536 53 72
ok $? "objects that realloc shrank in place count as what they are"

profiled prof:true,prof_sample:4K loops "$module"
profiled prof:true,prof_sample:1 threads
profiled prof:true,prof_sample:4K,guard_sample:50,guard_slots:16 threads
profiled prof:true,prof_sample:4K,profile:hardened threads
profiled prof:true,psi:0,cgroup:0 cached
profiled prof:true,prof_sample:1 ends
profiled prof:true,prof_sample:1,guard_sample:1 ends

cd "$TMP" || exit 1
SLUICE_CONF=prof:true,prof_final:1,prof_interval:1M,prof_prefix:own with_sluice "$prog" threads \
	>/dev/null 2>&1
is "$(find . -name 'own.*.f.heap' | wc -l)" 1 "prof_final writes a file at exit"
ok "$([ "$(find . -name 'own.*.i.heap' | wc -l)" -gt 3 ]; echo $?)" "prof_interval writes more"
out=$(MALLOC_CONF=prof:true,lg_prof_sample:12,prof_final:true with_sluice "$prog" threads 2>&1)
is "$(cat jeprof.*.f.heap 2>/dev/null | head -n 1)" heap_v2/4096 "MALLOC_CONF asks for it, too"
long=$(printf '%0200d' 0)
profiled "prof:true,prof_prefix:$long" asks
is "$(find . -name "$long.*.m.heap" | wc -l)" 1 "a dump without a name gets one"
rm -f "$long".*.m.heap
out=$(MALLOC_CONF=prof:true,prof_final:true,prof_prefix:$long with_sluice "$prog" threads 2>&1)
is "$(find . -name "$long.*.f.heap" | wc -l)" 1 "MALLOC_CONF takes a prefix of 200 characters"
out=$(SLUICE_CONF=prof:true,prof_leak:1 with_sluice "$prog" known /dev/null 2>&1)
like "$out" '^sluice: leaks at exit: ' "prof_leak says what was not freed" ||
	diag "$out"
like "$(printf '%s\n' "$out" | sed -n '/leak 1: some 67[0-9]* bytes, samples: 1,/,/leak 2:/p')" \
	'site_grown|#0 0x' "and by which call" || diag "$out"
SLUICE_CONF=prof:true,prof_sample:16K,prof_gdump:1,prof_prefix:peak with_sluice "$prog" known \
	/dev/null >/dev/null 2>&1
n=$(find . -name 'peak.*.u.heap' | wc -l)
[ "$n" -gt 5 ] && [ "$n" -lt 60 ]
ok $? "prof_gdump writes a profile at new peaks, and only there"
diag "$n"

# The second library has the same functions at the same addresses, with other frames.
module_of() {
	cat >"$TMP/reloaded.c" <<-'C'
		#include <stdlib.h>
		__attribute__((noinline)) void *inner(int n)
		{
			volatile char room[BYTES];
			void *p = malloc(n);

			room[0] = 1;
			return room[0] ? p : 0;
		}
		void *outer(int n)
		{
			volatile char room[2 * BYTES];
			void *p = inner(n);

			room[0] = 1;
			return room[0] ? p : 0;
		}
	C
	gcc -O1 -w -fno-builtin -shared -fPIC -D"BYTES=$2" "$TMP/reloaded.c" -o "$TMP/$1.so"
}

if command -v gcc >/dev/null 2>&1 && module_of first 64 && module_of second 96; then
	cat >"$TMP/reloads.c" <<-'C'
		#include <dlfcn.h>
		#include <stdlib.h>
		int main(void)
		{
			for (int round = 0; round < 20; round++) {
				const char *name = round % 2 ? "./second.so" : "./first.so";
				void *lib = dlopen(name, RTLD_NOW);
				void *(*outer)(int) = dlsym(lib, "outer");

				for (int i = 0; i < 1000; i++)
					free(outer(5000));
				dlclose(lib);
			}
			return 0;
		}
	C
	gcc -O1 -w "$TMP/reloads.c" -o "$TMP/reloads"
	SLUICE_CONF=prof:true,prof_sample:4096,prof_final:1,prof_prefix:reloads \
		with_sluice ./reloads >/dev/null 2>&1
	# Frames, and the last one, of the stacks with many samples.
	n=$(awk '/^@/ { stack = NF " " $NF }
		/^  t\*:/ && stack { gsub(/[^0-9]/, "", $4); if ($4 + 0 > 100) print stack }' \
		reloads.*.f.heap | sort -u | wc -l)
	is "$n" 1 "stacks stay right when a library is loaded where another one was"
else
	skip "stacks stay right when a library is loaded where another one was" "no gcc"
fi
