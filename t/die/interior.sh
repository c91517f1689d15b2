#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A pointer into a block that is not its start, or into memory that no malloc gave, stops the
# program.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
plan 68

dies interior-small small "8 bytes into an object of 100"
dies interior-small-16 small "16 bytes into an object of 200"
dies interior-small-32 small "32 bytes into an object of 64"
dies interior-small-512 small "512 bytes into an object of 1,000"
dies interior-small-end small "16 bytes before the end of an object of 30,000"
dies interior-32 small "16 bytes into an object of 32"
dies interior-aligned small "64 bytes into an object aligned to 1,024"
dies interior-realloc-small small "16 bytes into an object of 400, reallocated"
dies interior-thread small "128 bytes into an object of 500, by another thread"
dies interior-far small "16 bytes into one of many objects of 48"
dies interior-large large "one page into a block of 100 kB"
dies interior-large-16 large "16 bytes into a block of 100 kB"
dies interior-huge large "1 MiB into a block of 100 MiB"
dies interior-huge-16 large "16 bytes into a block of 100 MiB"
dies interior-realloc large "two pages into a block of 100 kB, reallocated"
dies never-handed-out small "a place in a slab that no malloc gave"
dies double-huge large "a block of 100 MiB is freed twice"
