#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The same block freed twice: the program is stopped.
. "${0%/*}/tap.sh"
. "$srcdir/t/helpers/die.sh"
plan 36

dies double-16 small "an object of 16 bytes is freed twice"
dies double-small small "an object of 100 bytes is freed twice"
dies double-medium small "an object of 20,000 bytes is freed twice"
dies double-zero small "what malloc(0) gave is freed twice"
dies double-realloc-zero small "an object is freed by realloc(p, 0) and by free"
dies double-large large "a block of 100 kB is freed twice"
dies double-large-around large "a block of 100 kB is freed twice, with another free in between"
dies double-large-thread large "a block of 200 kB is freed by another thread and by its own"
dies realloc-freed-large large "a freed block of 100 kB is reallocated"
