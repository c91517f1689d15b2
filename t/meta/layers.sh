#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Layers depend downward only, and no file or function of them is too long.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
plan 11

faults=$("$srcdir/build-aux/check-layers" "$srcdir" 2>&1)
ok $? "no file of src/ includes a header of a layer above its own"
if [ -n "$faults" ]; then
	diag "$faults"
fi

# The check itself, on trees with a fault.
planted() {
	mkdir -p "$TMP/$1/src/os" "$TMP/$1/src/heap"
	for file in os/vm.c heap/slab.h heap/holes.h; do
		: >"$TMP/$1/src/$file"
	done
}

# blames TREE LABEL
blames() {
	"$srcdir/build-aux/check-layers" "$TMP/$1" >/dev/null 2>&1
	is $? 1 "$2"
}

planted good
"$srcdir/build-aux/check-layers" "$TMP/good"
ok $? "a tree without a fault passes"
planted up
printf '#include "heap/slab.h"\n' >"$TMP/up/src/os/vm.c"
blames up "an include of an upper folder is noticed"
planted pair
printf '#include "heap/holes.h"\n' >"$TMP/pair/src/heap/slab.h"
printf '#include "heap/slab.h"\n' >"$TMP/pair/src/heap/holes.h"
blames pair "two files of a folder that include each other are noticed"
planted public
printf '#include <sluice/sluice.h>\n' >"$TMP/public/src/heap/slab.h"
blames public "the public header below the top folder is noticed"
planted stray
mkdir "$TMP/stray/src/cellar"
echo "int stray;" >"$TMP/stray/src/cellar/stray.c"
blames stray "a file in a folder that is no layer is noticed"
planted flat
printf '#include "types.h"\n' >"$TMP/flat/src/flat.c"
blames flat "a file beside the folders is noticed"
mkdir -p "$TMP/empty/src"
blames empty "a tree without sources is noticed"

faults=$("$srcdir/build-aux/check-sizes" "$srcdir" 2>&1)
ok $? "no file of src/ has more than 800 lines, no function more than 60"
if [ -n "$faults" ]; then
	diag "$faults"
fi
planted long
awk 'BEGIN { print "int f(void)\n{"; for (i = 0; i < 59; i++) print "\t;"; print "}" }' \
	>"$TMP/long/src/os/vm.c"
is "$("$srcdir/build-aux/check-sizes" "$TMP/long")" \
	"src/os/vm.c:2: a function of 61 lines, more than 60" \
	"a function of 61 lines is noticed"
awk 'BEGIN { for (i = 0; i < 801; i++) print "int f;" }' >"$TMP/long/src/os/vm.c"
is "$("$srcdir/build-aux/check-sizes" "$TMP/long")" \
	"src/os/vm.c:801: a file of more than 800 lines" \
	"a file of 801 lines is noticed"
