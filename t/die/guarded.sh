#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# guard_sample: a misuse of an object that has a page of its own ends with a report that names the
# kind of error, the object, and the stacks of its allocation and its free. What is right works.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
with_libunwind || skip_all "built without libunwind, so stacks have no names"
[ "$(getconf PAGESIZE)" -eq 4096 ] || skip_all "the helper knows pages of 4 KiB"
plan 52

guarded=$builddir/t/helpers/guarded
module=$builddir/t/helpers/.libs/plugin.so

# reports CASE STATUS PATTERN FREED [CALLS]: three tests; FREED is the number of stacks of a free,
# and CALLS of those that begin in freed_here, if that is not the same
reports() {
	for _ in 1 2 3; do
		out=$(SLUICE_CONF=guard_sample:1 with_sluice "$guarded" "$1" 2>"$TMP/err")
		status=$?
		if grep -q '^sluice:   #.*(allocated_here' "$TMP/err"; then
			break
		fi
	done
	object=$(printf '%s\n' "$out" | sed -n 's/^object //p')
	is "$status" "$2" "$1: how the program ended"
	like "$(grep '^sluice: fatal: ' "$TMP/err")" \
		"^sluice: fatal: $3.* object $object \([0-9]+ bytes\)\$" \
		"$1: a line says what, where and which object"
	is "$(grep -c '^sluice: the object was allocated by thread [1-9]' "$TMP/err") $(
		grep -c '^sluice: the object was freed by thread [1-9]' "$TMP/err") $(
		grep -c '^sluice:   #0 0x.*(allocated_here+' "$TMP/err") $(
		grep -c '^sluice:   #0 0x.*(freed_here+' "$TMP/err")" \
		"1 $4 1 ${5-$4}" "$1: the stacks begin where the object was allocated and freed"
	diag "$(grep '^sluice: fatal' "$TMP/err")"
}

reports use-after-free 139 \
	"use after free: address 0x[0-9a-f]+, (write|access), 8 bytes inside" 1
reports read-after-free 139 \
	"use after free: address 0x[0-9a-f]+, (read|access), 0 bytes inside" 1
reports overflow 139 \
	"overflow: address 0x[0-9a-f]+, (write|access), 0 bytes behind the end of" 0
reports underflow 139 "underflow: address 0x[0-9a-f]+, (read|access), 1 bytes before" 0
reports freed-twice 134 "object freed twice: address 0x[0-9a-f]+," 1
reports freed-middle 134 "free of the middle of an object: address 0x[0-9a-f]+," 0
reports near-overflow 134 "object written to beyond its end: address 0x[0-9a-f]+," 0 1
reports size-after-free 134 "size asked of an object that was freed: address 0x[0-9a-f]+," 1
reports realloc-after-free 134 "size asked of an object that was freed: address 0x[0-9a-f]+," 1
reports thread-after-free 139 "use after free: address 0x[0-9a-f]+," 1
reports child-after-free 139 "use after free: address 0x[0-9a-f]+," 1
reports both-after-free 139 "use after free: address 0x[0-9a-f]+," 1
reports on-alternate 139 "use after free: address 0x[0-9a-f]+," 1

# quiet CASE STATUS OUT LABEL: no report
quiet() {
	out=$(SLUICE_CONF=guard_sample:1 with_sluice "$guarded" "$1" 2>"$TMP/err")
	is "$? $(printf '%s' "$out" | sed '/^object/d' | tr '\n' ' ')$(grep -c sluice "$TMP/err")" \
		"$2 ${3}0" "$4"
}

quiet handler-later 7 "handler 11" "a handler that the program installs later has the fault alone"
quiet other-fault 139 "" "another fault does what it always does"
quiet sent 139 "" "a SIGSEGV that is sent does what it always does"
out=$(SLUICE_CONF=guard_sample:1 with_sluice "$guarded" handler-chains 2>"$TMP/err")
is "$? $(printf '%s\n' "$out" | sed -n 2p) $(grep -c 'fatal: use after free' "$TMP/err")" \
	"139 chains 1" "a handler that the program installs later, and that calls ours, reports"

for conf in guard_sample:1 guard_sample:7,guard_slots:4 guard_sample:1,guard_slots:4096; do
	passes "$conf: the malloc family" "" "$conf" "$guarded" family
done
for conf in prof:true,prof_sample:1 guard_sample:1; do
	passes "$conf: a JIT registers frames, and the program unwinds" "" "$conf" "$guarded" jit
done
passes "eight threads" "" guard_sample:2 "$guarded" threads
passes "forks while modules are loaded" "" guard_sample:2 "$guarded" loops "$module"
proved_loaded "the library was loaded"
like "$(tail -n 1 "$STATS")" 'guard_samples=[1-9]' "objects were sampled"
