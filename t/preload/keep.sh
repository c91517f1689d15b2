#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What a program with one thread keeps of what it frees: dirty_max and a quarter of what is in use,
# and more only of what it uses again.
. "${0%/*}/../lib/tap.sh"
plan 13

keep=$builddir/t/helpers/keep
conf=dirty_max:16M,psi:0,cgroup:0

# run LABEL CASE [ARGS...]
run() {
	label=$1
	shift
	passes "$label" "" "$conf" "$keep" "$@"
}

for size in 500 20000 200000 1000000 20000000; do
	run "blocks of $size bytes are freed once: little is kept" once "$size" 0
done
run "a fifth of them stays" once 1000 20
run "a fork child frees what its parent built" child 3000
run "blocks of 30 MB shrink to 260 KB" shrink 30000000 260000
run "blocks of 1 MB shrink to 50 KB" shrink 1000000 50000
# What is not used for decay_ms goes: with no processor for so long, that would be all.
conf=$conf,decay_ms:600000
run "what is built and torn down again is kept from the third time on" again 300
run "of big blocks in turn nothing goes back" turns
run "big blocks that are replaced one by one and then freed are not all kept" replaced
proved_loaded "the program was served by the library" keep
