#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A free object is written to, or overrun by the object before it, where its link to the next one
# lies. The program is stopped when that link is followed, and malloc never returns what was
# written.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
plan 52

dies link-16 small "an address is written into freed objects of 16 bytes"
dies link-64 small "an address is written into freed objects of 64 bytes"
dies link-1024 small "an address is written into freed objects of 1,024 bytes"
dies link-4096 small "an address is written into freed objects of 4,096 bytes"
dies link-thread-16 small "an address is written into objects of 16 bytes that another thread freed"
dies link-thread-64 small "an address is written into objects of 64 bytes that another thread freed"
dies link-thread-1024 small \
	"an address is written into objects of 1,024 bytes that another thread freed"
dies link-copied small "the link of one freed object is copied into others"
dies link-low-byte small "one byte of the link of a freed object is changed"
dies link-low-byte-16 small "one byte of the link of a freed object of 16 bytes is changed"
dies link-zero-byte small "a byte that is one too far ends a string in a free neighbour"
dies link-overflow small "an object overruns a free neighbour by 8 bytes"
dies link-overflow-large small "an object of 2,048 bytes overruns a free neighbour by 8 bytes"
