#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A pointer into a block that is not its start, or into memory that no malloc gave: the program is
# stopped.
. "${0%/*}/tap.sh"
. "$srcdir/t/helpers/die.sh"
plan 32

dies interior-small small "8 bytes into an object of 100"
dies interior-large large "one page into a block of 100 kB"
dies interior-large-16 large "16 bytes into a block of 100 kB"
dies interior-huge large "1 MiB into a block of 100 MiB"
dies interior-huge-16 large "16 bytes into a block of 100 MiB"
dies interior-realloc large "two pages into a block of 100 kB, reallocated"
dies never-handed-out small "a place in a slab that no malloc gave"
dies double-huge large "a block of 100 MiB is freed twice"
