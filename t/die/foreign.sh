#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# A pointer that the library never gave stops the program.
. "${0%/*}/../lib/tap.sh"
. "$srcdir/t/lib/die.sh"
plan 36

dies foreign-stack other "a variable on the stack is freed"
dies foreign-static other "a static variable is freed"
dies foreign-first other "the first call of all is free of an address without memory"
dies foreign-mmap other "memory of mmap is freed"
dies foreign-unmapped other "an address without memory is freed"
dies foreign-noncanonical other "an address that no process can have is freed"
dies foreign-odd other "an odd address that no process can have is freed"
dies foreign-realloc other "memory of mmap is reallocated"
dies foreign-usable-size other "malloc_usable_size of memory of mmap is asked for"
