#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Layers depend downward only.
TAP_NO_LIBRARY=1
. "${0%/*}/tap.sh"
plan 4

faults=$("$srcdir/build-aux/check-layers" "$srcdir" 2>&1)
ok $? "no file of src/ includes a header of a layer above its own"
if [ -n "$faults" ]; then
	diag "$faults"
fi

# The check itself: it must see an upward include, a file without a layer, and an empty directory.
mkdir -p "$TMP/up/src" "$TMP/stray/src" "$TMP/empty/src"
printf '#include "buddy.h"\n' >"$TMP/up/src/vm.c"
printf '#include "types.h"\n' >"$TMP/stray/src/stray.c"
"$srcdir/build-aux/check-layers" "$TMP/up" >/dev/null 2>&1
is $? 1 "an upward include is noticed"
"$srcdir/build-aux/check-layers" "$TMP/stray" >/dev/null 2>&1
is $? 1 "a file that is in no layer is noticed"
"$srcdir/build-aux/check-layers" "$TMP/empty" >/dev/null 2>&1
is $? 1 "a tree without sources is noticed"
