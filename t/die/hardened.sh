#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# TIMEOUT: 300
#
# What a hardened process notices and others need not: each option of the group by itself.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/hardened.sh"
plan 80

end='object written to beyond its end'
stops overflow-1 canary:1 "$end" "one byte beyond 24"
stops overflow-1-odd canary:1 "$end" "one zero byte beyond 101"
stops overflow-8 canary:1 "$end" "8 bytes beyond 64"
stops overflow-16 profile:hardened "$end" "16 bytes beyond 1,000"
stops overflow-realloc canary:1 "$end" "one byte beyond what realloc gave"
stops overflow-calloc canary:1 "$end" "one byte beyond what calloc gave"
stops overflow-usable canary:1 "$end" "one byte beyond the usable size"
written='object written to after it was freed \(its byte'
stops written-first zero_on_free:1,quarantine:64K "$written 0\)" "a freed object's first byte"
first='object written to after it was freed, or overrun by the one before it \(its first 16 bytes\)'
stops written-first check:full "$first" "a freed object's first byte, without zeros"
stops written-first quarantine:64K "$first" "the same in a quarantine"
stops written-later zero_on_free:1 "$written 400\)" "a later byte of a freed object"
stops written-later profile:hardened "$written 400\)" "the same with all options"
stops written-last profile:hardened "$written 400\)" "seen at the end of the program"
stops spent-head profile:hardened,clear_rate:1 "$written 40\)" \
	"beyond clear_rate: one of the first 64 bytes"
stops spent-late profile:hardened,clear_rate:1 "$written 40\)" \
	"the same when it has left the quarantine"
stops spent-middle profile:hardened,clear_rate:0 "$written 400\)" "without clear_rate: any"
stops written-released profile:hardened "$written 400\)" "seen when its slab ends"
stops written-listed zero_on_free:1 "$written 400\)" "the same in a slab that is used still"
stops written-listed profile:hardened,clear_rate:0,quarantine:64K "$written 400\)" \
	"the same with a quarantine"
ready='block written to after it was freed \(its byte 30000\)'
stops written-ready zero_on_free:1 "$ready" "seen when a large block is used again"
stops written-drained profile:hardened "$written 400\)" "seen by a drain"
twice='(object|block) freed twice.*'
stops double-far check:full "$twice" "a second free after 5,000 others"
stops double-thread check:full "$twice" "a second free, after another thread's"
stops double-large check:full "$twice" "a second free of 300 kB"
stops double-zero check:full "$twice" "a second free of what malloc(0) gave"
freed='.*(was|is) freed'
stops usable-freed check:full "$freed" "the size of a freed object"
stops realloc-freed check:full "$freed" "realloc of a freed object"
size='free with a wrong size \([0-9]+ instead of [0-9]+ bytes\)'
stops sized-c check_sizes:1 "$size" "free_sized of another class's size"
stops sized-cxx check_sizes:1 "$size" "delete of another class's size"
stops sized-cxx-array check_sizes:1,canary:1 "$size" "delete[] of a size that differs by one"

run_it sized-right profile:hardened
is "$status" 0 "right sizes pass"
run_it read-freed zero_on_free:1
is "$status" 0 "a freed object reads as zero behind its link and mark"
run_it zero-read check:full
is "$status" 139 "what malloc(0) gave cannot be read"
for o in quarantine:256K profile:hardened; do
	run_it large-read "$o"
	wrong=$status
	run_it large-write "$o"
	is "$wrong $status" "139 139" "$o: a freed large block can neither be read nor written"
	run_it large-again "$o"
	is "$status" 0 "$o: large blocks that left the quarantine are used again"
done
run_it spent-large profile:hardened,clear_rate:1
is "$status" "$(printf %d "'s")" "beyond clear_rate a freed large block keeps access"
run_it spent-large profile:hardened,clear_rate:0
is "$status" 139 "without clear_rate none does"
run_it spent-calloc profile:hardened,clear_rate:1
is "$status" 0 "calloc gives zeros where a freed block was not filled"
run_it zero-write check:full
is "$status" 139 "nor written"

# Each option alone changes nothing for a program without errors.
FAMILY_LIB=$SLUICE_LIB
export FAMILY_LIB
bad=
for o in check:full quarantine:1M zero_on_free:1 canary:1 random_slots:1 \
	check_sizes:1 profile:hardened; do
	for group in sizes aligned realloc calloc free names trim; do
		SLUICE_CONF=$o with_sluice "$builddir/t/helpers/family" $group thread \
			>"$TMP/out" 2>&1 || bad="$bad $o:$group"
	done
done
is "$bad" "" "each option alone leaves the malloc family as it is"
# All calls that a program may make, at random, beside forks.
bad=
seed=1
for o in check:full quarantine:1M zero_on_free:1 canary:1 random_slots:1 \
	check_sizes:1 profile:hardened profile:hardened,clear_rate:1; do
	out=$(SLUICE_CONF=$o,backtrace:0 with_sluice "$builddir/t/helpers/correct" 600 $seed 2>&1)
	[ "$out" = good ] || bad="$bad $o ($seed): $out"
	seed=$((seed + 1))
done
is "$bad" "" "no correct program is stopped, nor its memory changed"

for o in zero_on_free:1 profile:hardened; do
	run_it holes-right "$o"
	is "$status" 0 "$o: objects beside memory that the kernel took are used again"
done

# What the start cannot do it says: t/unit/harden.c, and here what needs no region.
none=
for i in $(seq 6); do
	SLUICE_CONF=check:full,vm_fail_at:$i with_sluice true >"$TMP/out" 2>&1 ||
		none="$none status $?"
	none="$none$(cat "$TMP/out")
"
done
like "$none" 'malloc.0. gives 16 bytes with access' "no memory for malloc(0)'s area gets a line"
is "$(echo "$none" | grep -c 'status')" 0 "and the program goes on"

# The choice of slots: a child of fork has its own.
run_it fork-slots random_slots:1
is "$status" 0 "a child of fork chooses other slots than its parent"
echo x >"$TMP/f"
SLUICE_CONF=profile:hardened with_sluice sort "$TMP/f" >"$TMP/out"
is "$?, $(cat "$TMP/out")" "0, x" "a program runs with all of them"
proved_loaded "the library was loaded"
