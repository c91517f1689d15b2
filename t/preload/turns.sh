#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Threads that take turns: what one has freed the next one uses, though its owner sleeps.
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
	skip "it survives in a cgroup that has no room for two" "no memory cgroup can be made here"
	skip "also when the next thread frees" "no memory cgroup can be made here"
	exit
fi
at_exit 'rmdir "$group"'
echo $((95 << 20)) >"$limit"
limited() {
	with_sluice sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$group/cgroup.procs" "$turns" "$@" 2>&1
}
like "$(limited small 16 48)" "^peak " "it survives in a cgroup that has no room for two"
like "$(limited handed 16 48)" "^peak " "also when the next thread frees"
