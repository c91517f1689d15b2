#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# One thread takes back what all others have cached, asleep or busy.
. "${0%/*}/../lib/tap.sh"
need prlimit util-linux
plan 10

drain=$builddir/t/helpers/drain
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

# run LABEL CASE [OPTIONS]
run() {
	passes "$1" "" "${3-}" "$drain" "$2"
}

# The library's own thread exists but takes nothing: neither after however long it is until all are
# asleep, nor when others use up the machine's memory.
waits=idle_ms:3600000,decay_ms:3600000,psi:0,cgroup:0
run "64 threads sleep with full pcps: one drain leaves 0 bytes in them" sleepers "$waits"
run "malloc_trim(0) gives back what 64 sleeping threads cached" trim "$waits"
run "drains while four threads allocate and free" busy
run "pcps disabled: none takes a page, and free regions are unmapped" disable "$waits"
out=$(with_sluice prlimit --as=$((256 * 1048576)) "$drain" bulk 2>&1)
like "$out, status $?" "$passed" \
	"a request for more page blocks than there are gets what there is, and nothing is lost"
proved_loaded "the program was served by the library" drain

# The drain seen from the kernel: between the two marks.
if ! strace -f -o "$TMP/trace" true 2>"$TMP/err"; then
	for label in "the drain is in the trace" "no signal is sent" \
		"no sleeping thread makes a system call" \
		"the threads were asleep"; do
		skip "$label" "strace cannot trace here: $(tail -n 1 "$TMP/err")"
	done
	exit
fi
# Without the library's own thread, which sleeps and wakes up by its own clock.
SLUICE_CONF=background:never with_sluice strace -f -o "$TMP/trace" "$drain" sleepers >"$TMP/out" \
	2>&1
awk '/write\(-1, "drain ends"/ { inside = 0 }
	inside { print }
	/write\(-1, "drain begins"/ { inside = 1; print "main " $1 }' "$TMP/trace" >"$TMP/during"
main=$(sed -n 's/^main //p' "$TMP/during")
purges=$(grep -c -E 'madvise\(' "$TMP/during")
ok "$(test -n "$main" && test "$purges" -gt 0; echo $?)" \
	"the drain is in the trace ($purges purges)"
is "$(grep -E 'tgkill|tkill|kill\(|rt_sigqueueinfo|rt_tgsigqueueinfo|--- SIG|ptrace' \
	"$TMP/during")" "" \
	"no signal is sent"
is "$(awk -v main="$main" '$1 != main && $1 != "main"' "$TMP/during" | head -n 5)" "" \
	"no sleeping thread makes a system call"
is "$(awk '/write\(-1, "drain begins"/ { exit }
	{ last[$1] = $0 }
	END {
		for (t in last)
			n += last[t] ~ /(read|futex)\(.*(unfinished|$)/
		print n
	}' "$TMP/trace")" 64 \
	"the threads were asleep in read and futex"
