#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The same block freed twice stops the program.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
plan 132

dies double-16 small "an object of 16 bytes is freed twice"
dies double-small small "an object of 100 bytes is freed twice"
dies double-medium small "an object of 20,000 bytes is freed twice"
dies double-zero other "what malloc(0) gave is freed twice"
dies double-realloc-zero small "an object is freed by realloc(p, 0) and by free"
dies double-large large "a block of 100 kB is freed twice"
dies double-large-around large "a block of 100 kB is freed twice, with another free in between"
dies double-large-thread large "a block of 200 kB is freed by another thread and by its own"
dies realloc-freed-large large "a freed block of 100 kB is reallocated"
dies double-written small "an object is freed, written to, and freed again"
# With many frees in between, its slab may be gone, and the class with it.
dies late-1 small "an object is freed twice, with one of 64 bytes in between"
dies late-16 small "an object is freed twice, with one of 16 bytes in between"
dies late-20 small "an object is freed twice, with 20 of 64 bytes in between"
dies late-200 small "an object is freed twice, with 200 of 64 bytes in between"
dies late-2000 other "an object is freed twice, with 2,000 of 64 bytes in between"
dies late-2000-16 small "an object is freed twice, with 2,000 of 16 bytes in between"
dies late-1000-4k other "an object is freed twice, with 1,000 of 4 KiB in between"
dies late-30-20k other "an object is freed twice, with 30 of 20,000 bytes in between"
dies late-3-64k large "an object is freed twice, with three of 64 KiB in between"
dies now-2 small "the second free itself is noticed, after two others of 24 bytes"
dies now-20 small "... after 20 of 64 bytes"
dies now-200 other "... after 200 of 1,000 bytes"
dies now-10-9k other "... after 10 of 9,000 bytes"
dies now-thread small "... after 20 of 100 bytes, where the first free was another thread's"
dies now-own-thread small "... where its own thread was the first, and another one the second"
dies now-own-thread-16 small "... the same with 16 bytes"
dies now-own-thread-9k small "... the same with 9,000 bytes"
dies now-threads small "... where two other threads freed it"
dies late-thread-own small "an object is freed by another thread, then by its own"
dies late-own-thread small "an object is freed by its own thread, then by another one"
dies late-threads small "an object is freed by two other threads"
dies late-thread-many either \
	"an object is freed by another thread, and by its own after 2,000 others"
dies late-realloc-moved small "an object that realloc has moved is freed where it was"
