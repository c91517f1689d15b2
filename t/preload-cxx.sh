#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# C++: every form of operator new and delete, what they do without memory, and thread_local objects.
. "${0%/*}/tap.sh"
need g++

operators=$TMP/operators
if ! g++ -std=c++17 -O1 -pthread -Wno-alloc-size-larger-than -o "$operators" \
	"$srcdir/t/helpers/operators.cc" -ldl 2>"$TMP/err"; then
	bail_out "g++ cannot compile the program: $(head -n 3 "$TMP/err")"
fi
OPERATORS_LIB=$SLUICE_LIB
export OPERATORS_LIB

plan 7

# run CASE LABEL
run() {
	out=$(with_sluice "$operators" "$1" 2>&1)
	like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$2"
}

run symbols "all 20 operators come from the library"
run forms "each form of new has its form of delete"
run no-memory "no memory: new_handler is called, then bad_alloc or nullptr"
run handler-helps "new_handler makes room and the request succeeds"
run containers "strings, vectors and maps in four threads"
run thread-locals "thread_local objects allocate and free in their destructors"
proved_loaded "the program was served by the library"
