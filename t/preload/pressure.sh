#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Shortage of memory for real: a memory cgroup's limit, and the kernel's PSI.
#
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
# Both pressure.sh and pressure-tool.sh make the machine short of memory.
one_at_a_time preload/pressure.sh
plan 24
tmpdir

turns=$builddir/t/helpers/turns
pressure=$builddir/t/helpers/pressure
scatter=$builddir/t/helpers/scatter
# stat_of NAME: its value in the last process of with_sluice to end.
stat_of() {
	tail -n 1 "$STATS" | tr ' ' '\n' | sed -n "s/^$1=//p"
}

# Version 1; version 2's memory controller is in /sys/fs/cgroup itself.
group=
limit=
for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
	[ -z "$group" ] && [ -w "$root" ] || continue
	mkdir "$root/sluice-pressure.$$" 2>/dev/null || continue
	for file in memory.limit_in_bytes memory.max; do
		[ ! -w "$root/sluice-pressure.$$/$file" ] ||
			group=$root/sluice-pressure.$$ limit=$group/$file
	done
	case $limit in
	*.max) usage=$group/memory.current ;;
	*) usage=$group/memory.usage_in_bytes ;;
	esac
	[ -n "$group" ] || rmdir "$root/sluice-pressure.$$"
done

# limited MIB COMMAND...: run it in the group.
limited() {
	echo $(($1 << 20)) >"$limit"
	shift
	with_sluice sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$group/cgroup.procs" "$@" 2>&1
}

# wait_for WORD: until it is in $TMP/out.
wait_for() {
	until grep -q "$1" "$TMP/out"; do
		sleep 0.1
	done
}

psi_total() {
	sed -n 's/^some .*total=//p' /proc/pressure/memory
}

if [ -n "$group" ]; then
	at_exit 'rmdir "$group"'
	like "$(limited 70 "$turns" blocks 16 48)" "^peak " \
		"16 threads in turn, 48 MiB of blocks each, survive in a cgroup of 70 MiB"
	proved_loaded "the program was served by the library" turns
	diag \
		"checks that found little: $(stat_of pressure_near_limit), purged: $(stat_of purged_bytes)"
	[ "$(stat_of pressure_near_limit)" -gt 0 ]
	ok $? "the threads survive because the limit was checked"
	like "$(limited 62 "$turns" small 16 48)" "^peak " \
		"16 threads in turn, 48 MiB of small objects each, survive in 62 MiB"
	like "$(limited 62 "$turns" handed 16 48)" "^peak " \
		"small objects that the next thread frees survive in 62 MiB"
	# Less than a process may take without a limit before it looks for the first time.
	like "$(limited 10 "$turns" small 16 4)" "^peak " \
		"16 threads in turn, 4 MiB of small objects each, survive in 10 MiB"

	# 105 MiB of small objects, of which one in twenty stays, and then 95 MiB of blocks.
	like "$(limited 130 "$scatter" blocks 90000)" "changed 0$" \
		"blocks find room between scattered survivors in 130 MiB"
	is "$(SLUICE_CONF=holes:0 limited 130 "$scatter" blocks 90000 | grep changed)" "" \
		"blocks find no room between scattered survivors with holes:0"

	# None of them has a thread of ours, or hears of the others.
	for size in 1000 20000 300000; do
		is "$(limited 160 "$pressure" workers 8 40 "$size")" "alive 8" \
			"8 processes of one thread free 40 MiB, blocks of $size bytes, each in 160 MiB"
	done
	is "$(SLUICE_CONF=dirty_max:64M limited 160 "$pressure" workers 8 40 1000 |
		grep "alive 8")" "" "with a dirty_max of their own they keep too much"

	# The process itself does nothing any more. Another one of the group grows, into the last 3
	# MiB only when there are more: how fast the first one is depends on the machine.
	: >"$TMP/out"
	SLUICE_CONF=idle_ms:600000,decay_ms:600000,psi:0 limited 112 "$pressure" back 80 90 \
		>"$TMP/out" &
	job=$!
	wait_for ready
	eaten=$(sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$group/cgroup.procs" \
		"$pressure" eat 90 30 "$usage" $((109 << 20)) 2>&1)
	wait "$job"
	is "$eaten" eaten "free memory goes when another process of the group needs it"
	like "$(cat "$TMP/out")" "^back" "free memory goes without a call of the program"
else
	for label in "page blocks" "the library" "the look" "small objects" "handed" \
		"a small group" "holes" "holes:0" "workers of small blocks" "of middle ones" \
		"of large ones" "told" "another" "nobody"; do
		skip "in a memory cgroup: $label" "no memory cgroup can be made here"
	done
fi

# peak LABEL SETTINGS LIMIT CASE: of 8 threads in turn, 40 MiB each, the peak RSS is at most LIMIT
# MiB.
peak() {
	out=$(SLUICE_CONF=$2 with_sluice "$turns" "$4" 8 40 2>&1)
	diag "$2, $4: $out"
	[ "${out##* }" -le "$3" ] 2>/dev/null
	ok $? "$1"
}

peak "above soft_limit nothing is kept, though what is in use alone is above it" soft_limit:32M 55 \
	handed
peak "nor is more than cache_limit" cache_limit:2M 55 blocks
peak "also with background:never" soft_limit:8M,cache_limit:0%,background:never 55 small

# witness psi FILE, witness level GROUP: asks the kernel for what the library asks it for; whether
# and how often it says so depends on the machine. Each time is a line of $TMP/told.
witness() {
	/usr/bin/python3 -c '
import os, select, sys, time
kind, path = sys.argv[1:]
if kind == "psi":
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    os.write(fd, b"some 10000 2000000\0")
else:
    fd = os.eventfd(0)
    level = os.open(path + "/memory.pressure_level", os.O_RDONLY)
    with open(path + "/cgroup.event_control", "w") as f:
        f.write("%d %d medium" % (fd, level))
poll = select.poll()
poll.register(fd, select.POLLPRI if kind == "psi" else select.POLLIN)
print("listening", flush=True)
while True:
    poll.poll()
    if kind == "level":
        os.read(fd, 8)
    print("told", flush=True)
    time.sleep(1)' "$1" "$2" >"$TMP/told" &
	listener=$!
	until grep -q listening "$TMP/told" || ! kill -0 "$listener" 2>/dev/null; do sleep 0.05;
		done
}

# heard LABEL SAID: SAID is "back"; "kept" is a fault where the kernel has told the witness several
# times, so also when the library was listening.
heard() {
	kill "$listener" 2>/dev/null
	told=$(grep -c told "$TMP/told")
	diag "told $told times: $2"
	case $2 in
	kept*)
		if [ "$told" -lt 5 ]; then
			skip "$1" "the kernel says that too seldom here"
			return
		fi
		;;
	esac
	like "$2" "^back" "$1"
}

# PSI: a process that writes more files than its group may have in memory waits for the kernel to
# find some. The one that holds free memory is not in that group.
if [ -n "$group" ] && [ -r /proc/pressure/memory ] && (: <>/proc/pressure/memory) 2>/dev/null; then
	: >"$TMP/out"
	SLUICE_CONF=idle_ms:600000,decay_ms:600000,cgroup:0,psi_stall_ms:10 \
		with_sluice "$pressure" back 80 60 >"$TMP/out" &
	job=$!
	wait_for ready
	witness psi /proc/pressure/memory
	echo $((6 << 20)) >"$limit"
	before=$(psi_total)
	sh -c 'echo $$ >"$1" && while [ -e "$2" ]; do
			dd if=/dev/zero of="$2.file" bs=64k count=800 2>/dev/null
		done' sh "$group/cgroup.procs" "$TMP/out" &
	eater=$!
	wait "$job"
	mv "$TMP/out" "$TMP/psi"
	wait "$eater"
	diag "tasks waited $(($(psi_total) - before)) us for memory"
	heard "free memory goes when the kernel says that memory is short" "$(tail -n 1 "$TMP/psi")"
	out=$(SLUICE_CONF=cgroup:0 with_sluice "$pressure" files)
	diag "$out"
	like "$out" "^descriptor [0-9]+, closed on exec" \
		"PSI's descriptor does not go to other programs"
	like "$out" "^good" "a file that the program opens at the descriptor's number is left alone"
else
	for label in "what is free goes" "the descriptor is closed on exec" "and is not mistaken";
		do
		skip "when the kernel says that memory is short: $label" \
			"PSI cannot be had, or be made to rise"
	done
fi

# write_files GROUP...: a process in the groups, one of which has a limit of 6 MiB, writes files
# until there is no $TMP/out any more: the kernel looks for memory all the time.
write_files() {
	sh -c 'file=$1; shift
		for group; do echo $$ >"$group/cgroup.procs"; done
		while [ -e "$file" ]; do
			dd if=/dev/zero of="$file.file" bs=64k count=800 2>/dev/null
		done' sh "$TMP/out" "$@" &
	eater=$!
}

# until_back GROUP OPTIONS COMMAND...: what a process in the group says in the end that has freed
# memory and does nothing, while others write files in $eaten_in.
until_back() {
	into=$1 settings=$2
	shift 2
	: >"$TMP/out"
	# shellcheck disable=SC2086
	write_files $eaten_in
	SLUICE_CONF=idle_ms:600000,decay_ms:600000,$settings with_sluice \
		sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$into" "$@" \
		>"$TMP/said"
	rm "$TMP/out"
	wait "$eater"
	tail -n 1 "$TMP/said"
}

# A process does not see the system's own PSI where something else lies over it.
hide='mount --bind /dev/null /proc/pressure/memory'
can_hide() {
	unshare -m sh -c "$hide" 2>/dev/null
}

# Version 1's memory.pressure_level: of what is looked for in a group below the process's own, which
# has no limit.
if [ -n "$group" ] && [ -r "$group/memory.pressure_level" ] && can_hide; then
	echo -1 >"$limit"
	eaten_in=$group/below
	mkdir "$eaten_in"
	echo $((6 << 20)) >"$eaten_in/memory.limit_in_bytes"
	in_one() {
		until_back "$group" "$1" unshare -m sh -c "$hide"' && exec "$@"' sh "$pressure" \
			back 80 "$2"
	}
	witness level "$group"
	heard "free memory goes when version 1's memory.pressure_level says so" "$(in_one psi:1 30)"
	is "$(in_one cgroup:0 5)" kept "without that sign free memory stays"
	rmdir "$eaten_in"
else
	skip "free memory goes when version 1's memory.pressure_level says so" \
		"no version 1 cgroup, or no mount namespace, can be made"
	skip "without that sign free memory stays" \
		"no version 1 cgroup, or no mount namespace, can be made"
fi

# Version 2's memory.pressure, which is there without the memory controller as well: the process is
# told by what lies over its /proc/self/cgroup that version 2 is all there is.
two=/sys/fs/cgroup/unified/sluice-pressure.$$
if [ -n "$group" ] && mkdir "$two" 2>/dev/null && [ -w "$two/memory.pressure" ] && can_hide; then
	at_exit 'rmdir "$two"'
	echo $((6 << 20)) >"$limit"
	eaten_in="$group $two"
	echo "0::/sluice-pressure.$$" >"$TMP/membership"
	in_two() {
		until_back "$two" "$1" unshare -m \
			sh -c "$hide"' && mount --bind "$1" /proc/$$/cgroup && shift && exec "$@"' \
			sh "$TMP/membership" "$pressure" back 80 "$2"
	}
	# Not by the name that it has by itself: a membership that is no file of /proc will do.
	own=cgroup_root:/sys/fs/cgroup/
	witness psi "$two/memory.pressure"
	heard "free memory goes when version 2's memory.pressure says so" \
		"$(in_two "$own,psi_stall_ms:10" 60)"
	is "$(in_two "$own,psi_stall_ms:10,cgroup:0" 5)" kept "without that sign free memory stays"
else
	rmdir "$two" 2>/dev/null
	skip "free memory goes when version 2's memory.pressure says so" \
		"no version 2 cgroup with PSI, or no mount namespace, can be made"
	skip "without that sign free memory stays" \
		"no version 2 cgroup with PSI, or no mount namespace, can be made"
fi
