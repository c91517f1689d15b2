#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# prof: the heap profile says where the memory of a known program is, to jeprof as well; samplers
# survive forks, dlopen and threads; files come when options ask for them.
. "${0%/*}/../lib/tap.sh"
getconf GNU_LIBC_VERSION 2>/dev/null | grep -q -E 'glibc 2\.(3[5-9]|[4-9][0-9])' ||
	skip_all "stacks need glibc 2.35"
plan 19
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
else
	for what in small large grown freed all; do
		skip "jeprof: $what" "jeprof is not installed (libjemalloc-dev)"
	done
fi

profiled prof:true,prof_sample:2M stepped "$TMP/heap"
# The samples, each for as many as it stands for.
ok "$(awk '/^  t\*:/ {
		n = $2 + 0
		bytes = $3 + 0
		live = n ? bytes / (1 - exp(-bytes / n / 2097152)) / 1048576 : 0
		print "# live: " live " MiB"
		exit !(live > 150 && live < 400)
	}' "$TMP/heap" >&2; echo $?)" "objects that realloc grew in place count once"

profiled prof:true,prof_sample:4K loops "$module"
profiled prof:true,prof_sample:1 threads
profiled prof:true,prof_sample:4K,guard_sample:50,guard_slots:16 threads
profiled prof:true,prof_sample:4K,profile:hardened threads

cd "$TMP" || exit 1
SLUICE_CONF=prof:true,prof_final:1,prof_interval:1M,prof_prefix:own with_sluice "$prog" threads \
	>/dev/null 2>&1
is "$(find . -name 'own.*.f.heap' | wc -l)" 1 "prof_final writes a file at exit"
ok "$([ "$(find . -name 'own.*.i.heap' | wc -l)" -gt 3 ]; echo $?)" "prof_interval writes more"
out=$(MALLOC_CONF=prof:true,lg_prof_sample:12,prof_final:true with_sluice "$prog" threads 2>&1)
is "$(cat jeprof.*.f.heap 2>/dev/null | head -n 1)" heap_v2/4096 "MALLOC_CONF asks for it, too"
out=$(SLUICE_CONF=prof:true,prof_leak:1 with_sluice "$prog" known /dev/null 2>&1)
like "$out" '^sluice: leaks at exit: ' "prof_leak says what was not freed" ||
	diag "$out"
