#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The same block freed twice: the program is stopped.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
plan 96

dies double-16 small "an object of 16 bytes is freed twice"
dies double-small small "an object of 100 bytes is freed twice"
dies double-medium small "an object of 20,000 bytes is freed twice"
dies double-zero small "what malloc(0) gave is freed twice"
dies double-realloc-zero small "an object is freed by realloc(p, 0) and by free"
dies double-large large "a block of 100 kB is freed twice"
dies double-large-around large "a block of 100 kB is freed twice, with another free in between"
dies double-large-thread large "a block of 200 kB is freed by another thread and by its own"
dies realloc-freed-large large "a freed block of 100 kB is reallocated"
dies double-written small "an object is freed, written to, and freed again"
dies late-1 small "another object of 64 bytes is freed in between"
dies late-16 small "another object of 16 bytes is freed in between"
dies late-20 small "20 others of 64 bytes are freed in between"
dies late-200 small "200 others of 64 bytes are freed in between"
dies late-2000 small "2,000 others of 64 bytes are freed in between"
dies late-2000-16 small "2,000 others of 16 bytes are freed in between"
dies late-1000-4k small "1,000 others of 4 KiB are freed in between"
dies late-30-20k small "30 others of 20,000 bytes are freed in between"
dies late-3-64k large "three others of 64 KiB are freed in between"
dies late-thread-own small "another thread frees it, then its own"
dies late-own-thread small "its own thread frees it, then another one"
dies late-threads small "two other threads free it"
dies late-thread-many other "another thread frees it, and its own after 2,000 others"
dies late-realloc-moved small "an object that realloc has moved is freed where it was"
