#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Tools that run, watch, check, record or confine a program (doc/hosts.md): what is said to work
# works, and what cannot is refused in one line, or done without the library.
# TIMEOUT: 900
. "${0%/*}/../lib/tap.sh"
plan 61
tmpdir

hosted=$builddir/t/helpers/hosted
run=$builddir/tools/sluice-run
passed='^[1-9][0-9]* checks, 0 failed$'
limit=$((60 * ${SLUICE_TEST_TIMEOUT_MULT:-1}))
cd "$TMP" || bail_out "no $TMP"

# hosted_by LABEL PROGRAM COMMAND...: the command ends well, and says that all checks passed; SKIP
# without PROGRAM.
hosted_by() {
	label=$1
	program=$2
	shift 2
	if ! command -v "$program" >/dev/null; then
		skip "$label" "$program is not installed"
		return
	fi
	out=$(timeout -s KILL "$limit" env LD_PRELOAD="$SLUICE_LIB" \
		SLUICE_CONF="${conf-}${conf:+,}stats_file:$STATS" \
		"$@" 2>&1 </dev/null)
	status=$?
	like "$out" "$passed" "$label"
	[ $status -eq 0 ] || diag "status $status: $out"
}

# able PROGRAM ARGS...: the tool works here, without the library, with any program.
able() {
	command -v "$1" >/dev/null && timeout -s KILL "$limit" "$@" >"$TMP/able" 2>&1 </dev/null
}

# ---- sanitizers: 8 builds, 3 tests each, and 2 that they still find what is wrong

# sanitized NAME COMPILER SAYS FLAGS...
sanitized() {
	name=$1
	compiler=$2
	says=$3
	shift 3
	if ! command -v "$compiler" >/dev/null ||
		! "$compiler" -g -O1 -w -fno-builtin "$@" -o "$TMP/$name" \
			"$srcdir/t/helpers/hosted.c" -pthread 2>/dev/null ||
		! able "$TMP/$name"; then
		skip "$name: the program runs" "$compiler $* makes no program that runs here"
		skip "$name: a line says that it begins again" "as before"
		skip "$name: sluice-run refuses it" "as before"
		return
	fi
	out=$(timeout -s KILL "$limit" env LD_PRELOAD="$SLUICE_LIB" "$TMP/$name" 2>&1)
	status=$?
	is "$status, $(printf '%s\n' "$out" | grep -E -c "$passed")" "0, 1" \
		"$name: the program runs"
	if [ "$says" = none ]; then
		is "$(printf '%s\n' "$out" | grep -c sluice)" 0 "$name: nothing is printed"
		out=$("$run" "$TMP/$name" 2>&1)
		like "$out" "$passed" "$name: sluice-run runs it"
		return
	fi
	is "$(printf '%s\n' "$out" | grep "^sluice: ")" \
		"sluice: the program is built with $says, which must be its malloc: it is started again without Sluice" \
		"$name: a line says that it begins again"
	out=$("$run" "$TMP/$name" 2>&1)
	is "$?, $out" \
		"126, sluice-run: $TMP/$name: is built with $says, which must be its malloc: run it without sluice-run, or build it without -fsanitize" \
		"$name: sluice-run refuses it in a line that says how to go on"
}

sanitized gcc-asan gcc AddressSanitizer -fsanitize=address
sanitized gcc-asan-static gcc AddressSanitizer -fsanitize=address -static-libasan
sanitized gcc-tsan gcc ThreadSanitizer -fsanitize=thread
sanitized gcc-tsan-static gcc ThreadSanitizer -fsanitize=thread -static-libtsan
sanitized gcc-ubsan gcc none -fsanitize=undefined
sanitized clang-asan clang AddressSanitizer -fsanitize=address
sanitized clang-tsan clang ThreadSanitizer -fsanitize=thread
sanitized clang-msan clang MemorySanitizer -fsanitize=memory

# finds NAME MODE REGEX
finds() {
	if [ ! -x "$TMP/$1" ] || ! able "$TMP/$1"; then
		skip "$1 finds what is wrong" "there is no such program"
		return
	fi
	out=$(timeout -s KILL "$limit" env LD_PRELOAD="$SLUICE_LIB" "$TMP/$1" "$2" 2>&1)
	like "$out" "$3" "$1 finds what is wrong, also where the library was preloaded"
}
finds gcc-asan overflows 'ERROR: AddressSanitizer: heap-buffer-overflow'
finds gcc-tsan races 'WARNING: ThreadSanitizer: data race'

# A program that is no PIE and takes malloc's address has an address for it, and may ask for a
# sanitizer's variable.
cat >"$TMP/asks.c" <<'C'
#include <stdio.h>
#include <stdlib.h>
void *(*volatile ours)(size_t);
int main(void)
{
	ours = malloc;
	return printf("%d %d\n", ours(3) != NULL, getenv("ASAN_OPTIONS") != NULL) < 0;
}
C
if command -v gcc >/dev/null &&
	gcc -no-pie -fno-pic -O1 "$TMP/asks.c" -o "$TMP/asks" 2>/dev/null; then
	is "$(LD_PRELOAD=$SLUICE_LIB "$TMP/asks" 2>&1)" "1 0" \
		"a program that asks for ASAN_OPTIONS is taken for none with a sanitizer"
else
	skip "a program that asks for ASAN_OPTIONS is taken for none with a sanitizer" \
		"gcc makes no such program"
fi

asan=$(gcc -print-file-name=libasan.so 2>/dev/null)
asan=$(readlink -f "$asan")
if [ -r "$asan" ]; then
	out=$(LD_PRELOAD="$asan" ASAN_OPTIONS=detect_leaks=0 "$run" /bin/true 2>&1)
	like "$?, $out" "^126, sluice-run: LD_PRELOAD has $asan, .*: run it without sluice-run$" \
		"sluice-run refuses a sanitizer that is preloaded"
	out=$(timeout -s KILL "$limit" env ASAN_OPTIONS=detect_leaks=0 \
		LD_PRELOAD="$SLUICE_LIB:$asan" "$hosted" 2>&1)
	like "$out" "$passed" "a sanitizer preloaded behind the library runs the program"
else
	skip "sluice-run refuses a sanitizer that is preloaded" "gcc has no libasan"
	skip "a sanitizer preloaded behind the library runs the program" "gcc has no libasan"
fi

# ---- valgrind

# grinds LABEL ARGS...: under valgrind all checks pass, and it has no error to report.
grinds() {
	label=$1
	shift
	if ! able valgrind -q /bin/true; then
		skip "$label" "valgrind is not installed, or cannot run here"
		return
	fi
	out=$(timeout -s KILL $((limit * 3)) env LD_PRELOAD="$SLUICE_LIB" SLUICE_CONF="${conf-}" \
		valgrind --error-exitcode=99 --log-file="$TMP/grind" "$@" "$hosted" 2>&1 </dev/null)
	is "$?, $(printf '%s\n' "$out" | grep -E -c "$passed")" "0, 1" "$label"
	[ "$(grep -c 'ERROR SUMMARY: [1-9]' "$TMP/grind")" = 0 ] ||
		diag "$(tail -n 30 "$TMP/grind")"
}
conf=''
grinds "valgrind memcheck" --tool=memcheck
grinds "memcheck of the program with Sluice's malloc" --tool=memcheck \
	--soname-synonyms=somalloc=nouserintercepts
grinds "valgrind massif" --tool=massif --massif-out-file=/dev/null
grinds "massif of all pages" --tool=massif --pages-as-heap=yes --massif-out-file=/dev/null
grinds "callgrind" --tool=callgrind --callgrind-out-file=/dev/null
conf=background:never
grinds "helgrind, without our thread" --tool=helgrind
conf=''
if able valgrind -q /bin/true; then
	out=$("$run" valgrind -q "$hosted" one 2>&1)
	like "$out" \
		'^sluice-run: valgrind \(memcheck\) has a malloc of its own .* use valgrind --soname-synonyms' \
		"sluice-run says what valgrind does"
	like "$out" "$passed" "sluice-run runs memcheck"
	out=$("$run" valgrind -q --tool=callgrind --callgrind-out-file=/dev/null "$hosted" one 2>&1)
	is "$(printf '%s\n' "$out" | grep -c sluice-run)" 0 \
		"sluice-run prints nothing for tools that leave malloc alone"
else
	for label in says runs silent; do
		skip "sluice-run valgrind: $label" "valgrind cannot run here"
	done
fi

# ---- what watches

: >"$STATS"
hosted_by "heaptrack" heaptrack heaptrack -o "$TMP/track" "$hosted"
if [ -e "$TMP"/track.zst ] || [ -e "$TMP"/track.gz ]; then
	calls=$(heaptrack_print "$TMP"/track.* 2>/dev/null |
		sed -n 's/^calls to allocation functions: \([0-9]*\).*/\1/p')
	ok "$(test "${calls:-0}" -gt 20000; echo $?)" "heaptrack has seen the calls (${calls:-0})"
else
	skip "heaptrack has seen the calls" "heaptrack has written nothing"
fi
if able strace -f -o /dev/null /bin/true; then
	hosted_by "strace" strace strace -f -o "$TMP/strace" "$hosted"
else
	skip "strace" "the program is not installed, or may not trace here"
fi
# With several threads ltrace 0.7.3 kills a program, with any malloc.
if able ltrace -o /dev/null "$hosted" one; then
	hosted_by "ltrace, of one thread" ltrace ltrace -o "$TMP/ltrace" "$hosted" one
else
	skip "ltrace, of one thread" "the program is not installed, or may not trace here"
fi
if able perf record -q -o "$TMP/perf" /bin/true; then
	hosted_by "perf record" perf perf record -q -g -o "$TMP/perf" "$hosted"
else
	skip "perf record" "it is not installed, or may not measure here"
fi
if able uftrace record --force -d "$TMP/uftrace" /bin/true; then
	hosted_by "uftrace" uftrace uftrace record --force -d "$TMP/uftrace" "$hosted"
else
	skip "uftrace" "it is not installed, or cannot run here"
fi
if able gdb --nx --batch -ex 'set startup-with-shell off' -ex run -ex 'info program' /bin/true; then
	hosted_by "gdb" gdb gdb --nx --batch -ex 'set debuginfod enabled off' \
		-ex 'set startup-with-shell off' -ex run "$hosted"
else
	skip "gdb" "it is not installed, or cannot run here"
fi

# ---- what is preloaded as well

hosted_by "faketime" faketime faketime -f +3d "$hosted"
hosted_by "faketime, with a clock that stands" faketime faketime -f '2020-01-01 00:00:00' "$hosted"
hosted_by "fakeroot" fakeroot fakeroot "$hosted"
hosted_by "eatmydata" eatmydata eatmydata "$hosted"

# ---- what confines

hosted_by "a systemd-like unit by setpriv" setpriv \
	setpriv --no-new-privs --inh-caps=-all --bounding-set=-all \
	--securebits=+noroot,+noroot_locked,+no_setuid_fixup "$hosted"
if able unshare -Urpf --mount-proc /bin/true; then
	hosted_by "namespaces by unshare" unshare unshare -Urpf --mount-proc "$hosted"
else
	skip "namespaces by unshare" "no user namespaces here"
fi
if able bwrap --ro-bind / / --proc /proc --dev /dev --unshare-all /bin/true; then
	hosted_by "bwrap" bwrap bwrap --ro-bind / / --proc /proc --dev /dev --unshare-all \
		--die-with-parent --new-session "$hosted"
	hosted_by "bwrap without /proc and /sys" bwrap \
		bwrap --ro-bind / / --tmpfs /proc --tmpfs /sys --unshare-all --die-with-parent \
		"$hosted"
else
	skip "bwrap" "it is not installed, or there are no user namespaces here"
	skip "bwrap without /proc and /sys" "as before"
fi
hosted_by "few descriptors" prlimit prlimit --nofile=16 "$hosted"
hosted_by "a limit of address space" prlimit prlimit --as=400000000 "$hosted"
hosted_by "nothing may be locked, no core, no file" prlimit prlimit --memlock=0 --core=0 \
	--stack=131072 "$hosted"
proved_loaded "the program was served by the library" hosted

# ---- what records and restores

# CRIU=PATH: use another one than the package's.
criu=${CRIU:-criu}
if able "$criu" check; then
	mkdir "$TMP/images"
	mkfifo "$TMP/in"
	setsid env LD_PRELOAD="$SLUICE_LIB" "$hosted" waits <>"$TMP/in" >"$TMP/out" 2>&1 &
	pid=$!
	n=0
	while ! grep -q ready "$TMP/out" && [ $n -lt 600 ]; do
		sleep 0.1
		n=$((n + 1))
	done
	"$criu" dump -t "$pid" -D "$TMP/images" -o dump.log >/dev/null 2>&1
	wait "$pid" 2>/dev/null
	"$criu" restore -d -D "$TMP/images" -o restore.log >/dev/null 2>&1
	echo >"$TMP/in"
	n=0
	while ! grep -q checks "$TMP/out" && [ $n -lt 600 ]; do
		sleep 0.1
		n=$((n + 1))
	done
	kill "$pid" 2>/dev/null
	like "$(cat "$TMP/out")" "$passed" "a program dumped and restored by CRIU goes on"
else
	skip "a program dumped and restored by CRIU goes on" \
		"criu cannot work here: $(grep -m 1 -i error "$TMP/able" 2>/dev/null)"
fi

# gdb's own recorder needs no counters of the processor, but knows no AVX.
cat >"$TMP/back.c" <<'C'
#include <stdlib.h>
int done;
int main(void)
{
	char *p[50];
	for (int i = 0; i < 50; i++)
		p[i] = malloc(20 + i * 9);
	for (int i = 0; i < 50; i++)
		free(p[i]);
	done = 1;
	return 0;
}
C
# recorded SETTING: forward to the end of the frees, and back into the last of them.
recorded() {
	timeout -s KILL "$limit" gdb --nx --batch -ex 'set debuginfod enabled off' \
		-ex 'set startup-with-shell off' \
		-ex \
		'set env GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2_Usable,-AVX_Usable,-AVX512F_Usable,-XSAVEC_Usable,-XSAVE_Usable' \
		-ex 'set env LD_BIND_NOW=1' -ex "set env $1" -ex 'tbreak main' -ex run \
		-ex 'record full' -ex 'watch done' \
		-ex continue -ex 'break free' -ex reverse-continue -ex 'print done' \
		-ex 'info record' "$TMP/back" 2>&1
}
back='^Current instruction number is [0-9]+'
if gcc -g -O0 -fno-builtin -o "$TMP/back" "$TMP/back.c" 2>/dev/null &&
	command -v gdb >/dev/null && recorded NONE=1 | grep -q -E "$back"; then
	out=$(recorded "LD_PRELOAD=$SLUICE_LIB")
	is "$(printf '%s\n' "$out" | grep -E -c "$back") $(printf '%s\n' "$out" |
		grep -c '^\$1 = 0')" \
		"1 1" "gdb records, and goes back into free"
else
	skip "gdb records, and goes back into free" "gdb cannot record here"
fi
if able rr record -n -o "$TMP/rr" /bin/true; then
	hosted_by "rr record" rr rr record -n -o "$TMP/rr2" "$hosted"
	out=$(timeout -s KILL "$limit" rr replay -a "$TMP/rr2" 2>&1)
	like "$out" "$passed" "rr replay"
else
	skip "rr record" "rr cannot work here: no hardware counters, or it is not installed"
	skip "rr replay" "as before"
fi
