#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The probe points for tracers, and the scripts that use them.
. "${0%/*}/../lib/tap.sh"
need readelf binutils
notes=$(readelf -n "$SLUICE_LIB" | sed -n '/Provider: sluice$/{n;s/.*Name: //p;}' | sort -u)
[ -n "$notes" ] || skip_all "built without sys/sdt.h (Debian package systemtap-sdt-dev)"
plan 8
tmpdir

is "$notes" "$(sed -n '/^## Probe points/,/^## What/p' "$srcdir/doc/hosts.md" |
	grep '^| .[a-z_]*. *|\|^| .[a-z_]*., .[a-z_]*. |' | cut -d '|' -f 2 |
	grep -o '[a-z_]*' | grep . | grep -v '^probe$' | sort)" \
	"doc/hosts.md lists the probe points"
used=$(sed -n 's/^usdt:[$]1:sluice:\([a-z_]*\)$/\1/p' "$srcdir"/tools/probes/*.bt | sort -u)
is "$(printf '%s\n' "$used" | grep -v -x -F "$notes")${used:+ used}" " used" \
	"the scripts use probe points that exist"

# trace SCRIPT SECONDS: what it prints of a program at work. It takes some time to attach, and
# forgets a signal that comes meanwhile: then it is killed and prints nothing.
trace() {
	SLUICE_CONF=psi:0,cgroup:0 LD_PRELOAD=$SLUICE_LIB "$builddir/t/helpers/sum" work \
		>/dev/null 2>&1 &
	pid=$!
	until grep -q libsluice "/proc/$pid/maps" || ! kill -0 "$pid"; do sleep 0.05; done
	timeout -k 10 -s INT "$2" bpftrace -p "$pid" "$srcdir/tools/probes/$1" "$SLUICE_LIB" 2>&1
	kill "$pid" 2>/dev/null
	wait "$pid"
}

if command -v bpftrace >/dev/null 2>&1; then
	for script in drain-latency faults guard-reports lock-waits refills; do
		bpftrace -d "$srcdir/tools/probes/$script.bt" "$SLUICE_LIB" 1 >"$TMP/out" 2>&1
		ok $? "bpftrace parses $script.bt"
	done
	if bpftrace -e 'BEGIN { printf("%d\n", 42); exit(); }' 2>/dev/null | grep -q -x 42; then
		for seconds in 5 15 60; do
			counted=$(trace refills.bt $seconds)
			! printf '%s\n' "$counted" | grep -q '^@refills\[' || break
		done
		like "$counted" '^@refills\[.*: [1-9]' "refills.bt counts refills"
	else
		skip "refills.bt counts refills" "the kernel loads no programs for tracing"
	fi
else
	for script in drain-latency faults guard-reports lock-waits refills; do
		skip "bpftrace parses $script.bt" "bpftrace is not installed"
	done
	skip "refills.bt counts refills" "bpftrace is not installed"
fi
