#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The number of mappings stays bounded while memory is taken and given back in turn.
# vm.overcommit_ memory=2 is a setting of the whole machine; what it does to us, refusing address
# space, a limit does too.
. "${0%/*}/../lib/tap.sh"
need prlimit util-linux
plan 4

churn=$builddir/t/helpers/churn
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

out=$(with_sluice "$churn" 1000 2>"$TMP/err")
like "$out, status $?" "$passed" \
	"1,000 rounds of growth and purge by 32 threads: at most 64 mappings more"
diag "$(cat "$TMP/err")"
out=$(with_sluice prlimit --as=$((4096 * 1048576)) "$churn" 200 2>"$TMP/err")
like "$out, status $?" "$passed" \
	"200 rounds of growth and purge keep to 64 mappings where address space is limited"
diag "$(cat "$TMP/err")"
out=$(SLUICE_CONF=va_reserve:0 with_sluice "$churn" 200 2>"$TMP/err")
like "$out, status $?" "$passed" \
	"200 rounds of growth and purge keep to 64 mappings without reserved address space"
diag "$(cat "$TMP/err")"
proved_loaded "the program was served by the library" churn
