#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Threads that work one after the other: the next one uses what one has freed, though its owner
# sleeps.
. "${0%/*}/../lib/tap.sh"
plan 5

turns=$builddir/t/helpers/turns

# peak LABEL LIMIT CASE THREADS MIB: the peak RSS is at most LIMIT MiB.
peak() {
	label=$1 limit=$2
	shift 2
	out=$(with_sluice "$turns" "$@" 2>"$TMP/err")
	diag "$* : $out $(cat "$TMP/err")"
	[ "${out##* }" -le "$limit" ] 2>/dev/null
	ok $? "$label"
}

peak "16 threads in turn, 48 MiB of small objects each: less than those of two" 95 small 16 48
peak "the same, freed by the next thread" 95 handed 16 48
proved_loaded "the program was served by the library" turns

# In a memory cgroup with room for one thread's memory, not for two. Version 1; version 2's memory
# controller is in /sys/fs/cgroup itself.
group=
for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
	[ -n "$group" ] || [ ! -w "$root" ] || ! mkdir "$root/sluice-test.$$" 2>/dev/null ||
		group=$root/sluice-test.$$
	for file in memory.limit_in_bytes memory.max; do
		[ -z "$group" ] || [ ! -w "$group/$file" ] || limit=$group/$file
	done
	if [ -n "$group" ] && [ -z "${limit-}" ]; then
		rmdir "$group"
		group=
	fi
done
if [ -z "$group" ]; then
	skip "a process survives in a cgroup without room for two threads' memory" \
		"no memory cgroup can be made here"
	skip "a process survives in such a cgroup when the next thread frees" \
		"no memory cgroup can be made here"
	exit
fi
at_exit 'rmdir "$group"'
echo $((95 << 20)) >"$limit"
limited() {
	with_sluice sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$group/cgroup.procs" "$turns" \
		"$@" 2>&1
}
like "$(limited small 16 48)" "^peak " \
	"a process survives in a cgroup without room for two threads' memory"
like "$(limited handed 16 48)" "^peak " \
	"a process survives in such a cgroup when the next thread frees"
