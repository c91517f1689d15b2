#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The semantics of every function of the malloc family, in the initial thread and as the first calls
# of a new one.
. "${0%/*}/../lib/tap.sh"

groups="symbols:every function is there and comes from the library
sizes:blocks of all sizes are aligned to 16, usable to the end, and apart
zero:requests for no bytes give what they promise
huge:impossible requests give NULL and ENOMEM in every member
first-fails:a thread whose first request fails goes on, with each member
aligned:aligned blocks are aligned, at first and reallocated
bad-alignment:bad alignments give EINVAL or are rounded up as in glibc 2.36
errno:errno is left alone by success and by free
realloc:realloc keeps the contents, up to 64 MiB and down again
calloc:calloc gives zeros out of dirty memory, up to malloc_usable_size
free:all ways to free a block free it, and no-ops do nothing
names:a block from any of the other names is one of ours
info:mallinfo, malloc_info, malloc_stats and mallopt answer
trim:malloc_trim gives memory back"

plan 31

family=$builddir/t/helpers/family
FAMILY_LIB=$SLUICE_LIB
export FAMILY_LIB

for mode in main thread; do
	case $mode in
	main) where="initial thread" ;;
	thread) where="new thread" ;;
	esac
	for group in $(echo "$groups" | sed 's/:.*//'); do
		label=$(echo "$groups" | sed -n "s/^$group://p")
		out=$(with_sluice "$family" "$group" "$mode" 2>"$TMP/err")
		like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' \
			"$where: $label"
		if [ "$group $mode" = "info main" ]; then
			ok "$(test -s "$TMP/err"; echo $?)" "malloc_stats writes to stderr"
		fi
		if [ "$group $mode" = "trim main" ]; then
			proved_loaded "the program was served by the library" family
		fi
	done
done

# The same program runs with glibc, so that it cannot ask for what is only ours.
if getconf GNU_LIBC_VERSION 2>/dev/null | grep -q 'glibc 2\.3[67]$'; then
	unset FAMILY_LIB
	bad=
	for group in $(echo "$groups" | sed 's/:.*//'); do
		"$family" "$group" main >"$TMP/out" 2>&1 || bad="$bad $group"
	done
	is "$bad" "" "the program passes with glibc as well"
else
	skip "the program passes with glibc as well" "this is not glibc 2.36"
fi
