#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Huge pages: what the option says is what the kernel is told of our memory (redis/redis#7381: a
# program that forks snapshots must be able to say no).
. "${0%/*}/../lib/tap.sh"

if ! grep -q '^VmFlags' /proc/self/smaps 2>/dev/null; then
	skip_all "this kernel does not tell the flags of mappings"
fi
plan 17

# flags OPTIONS: how many of the process's mappings have hg (huge pages wanted), and nh (forbidden).
flags() {
	SLUICE_CONF=$1 with_sluice cat /proc/self/smaps >"$TMP/smaps"
	printf '%s %s\n' "$(grep -c '^VmFlags.* hg' "$TMP/smaps")" \
		"$(grep -c '^VmFlags.* nh' "$TMP/smaps")"
}

is "$(flags thp:always)" "1 0" "thp:always asks for huge pages for the region"
is "$(flags thp:never)" "0 1" "thp:never forbids huge pages"
if grep -q '\[madvise\]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null; then
	is "$(flags thp:auto)" "0 1" "thp:auto has none but those that it asks for"
else
	is "$(flags thp:auto)" "0 0" "thp:auto leaves all as the system has it"
fi
is "$(flags thp:system)" "0 0" "thp:system leaves any process as the system has it"
is "$(flags thp:reserve)" "0 1" \
	"thp:reserve forbids huge pages except those that the reserve's thread prefaults"

# told OPTIONS FLAG TEXT: all that a program allocates has the flag, and what it copies after a fork
# is little.
told() {
	passes "$1: $3" "this kernel has no smaps_rollup" "$1" "$builddir/t/helpers/snapshot" "$2"
}
told thp:never nh "no object is on a huge page, and a write after a fork copies a small one"
told thp:always hg "all objects may be on huge pages"
proved_loaded "the program was served by the library" snapshot

# grown OPTIONS MIB CONDITION TEXT: what the helper says of a program that grows, as awk's $1, $2.
grown() {
	if grep -q '\[always\]' /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null; then
		skip "$4" "this system gives huge pages unasked"
		return
	fi
	tap_out=$(SLUICE_CONF=$1 with_sluice "$builddir/t/helpers/grows" "$2")
	if [ $? -eq 77 ]; then
		skip "$4" "the kernel gives no huge page"
		return
	fi
	is "$(echo "$tap_out" | awk "$3 { print \"so\" }")" so "$4"
	diag "KiB of huge pages, and KiB left after malloc_trim: $tap_out"
}
grown thp:auto 160 '$1 >= 81920 && $2 < 4096' \
	"thp:auto: a large process grows by huge pages, and gives them back"
grown cache_limit:0 160 '$1 == 0' "not by default"
grown thp:auto,cache_limit:1M 160 '$1 == 0' \
	"with a cache_limit it does not, because free memory would exceed that"
grown thp:auto 12 '$1 == 0' "thp:auto: a process of 12 MiB has none"
grown thp:system 160 '$1 == 0' "thp:system: nor has any other one"
grown thp:auto threads '$1 > 0 && $2 < 16384' \
	"thp:auto: of 64 threads that grow at once each one takes little more than it needs"

grown thp:auto untouched '$1 > 0 && $2 < 65536' \
	"thp:auto: what a program does not write is not backed, but for a part"

# RSS tells what is mapped; only the cgroup tells what is left of a huge page mapped in part.
label="thp:auto: what is given back of a huge page is free at once"
group=/sys/fs/cgroup/memory/sluice-thp-$$
if ! mkdir "$group" 2>/dev/null; then
	skip "$label" "no memory cgroup can be made here"
else
	tap_out=$(echo 0 >"$group/cgroup.procs" && SLUICE_CONF=thp:auto \
		with_sluice "$builddir/t/helpers/grows" 160 "$group/memory.usage_in_bytes")
	if [ $? -eq 77 ]; then
		skip "$label" "the kernel gives no huge page"
	else
		ok $(($(echo "$tap_out" | awk '{ print $3 + 0 }') < 90000)) "$label"
		diag "KiB of huge pages, KiB left, KiB given back: $tap_out"
	fi
	rmdir "$group" 2>/dev/null || (sleep 1 && rmdir "$group")
fi
like "$(SLUICE_CONF=thp:maybe with_sluice true 2>&1)" "thp.*never\|auto\|always" \
	"an unknown word is refused"
