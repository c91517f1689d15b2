#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The randomized model of t/unit/model.c as an ordinary program: its malloc is the library's. It
# prints its seed; SLUICE_MODEL_SEED, SLUICE_MODEL_SECONDS and SLUICE_MODEL_THREADS as there.
#
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 4

tmpdir
with_sluice "$builddir/t/helpers/model" >"$TMP/out" 2>"$TMP/err"
ok $? "a random mix of allocations, threads, forks and drains finds no fault"
is "$(cat "$TMP/err")" "" "the library prints nothing"
like "$(cat "$TMP/out")" '^# SLUICE_MODEL_SEED=0x[0-9a-f]+$' "the seed is printed"
proved_loaded "the program was served by the library" model
grep -v '^ok' "$TMP/out" | sed 's/^/# /'
