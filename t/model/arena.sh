#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the arena's chunks (t/model/arena.pml) holds, and no part of the protocol can be left
# out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 10

model arena
verified "objects lie in mapped memory of their own, and no chunk is left mapped or unmapped twice"
caught BASE_EARLY \
	"the address is read after a place was taken, because the chunk may have changed before"
caught DEAD_SHARED "a block without live objects gives no more"
caught WORD_KEPT "the word of a block is cleared before the block is released"
caught UNMAP_NO_CAS "the step that releases the last block makes the chunk BUSY"
caught FREE_TWO_STEPS "one of two threads that free an object clears its bit"
caught START_LATE "the start bit is cleared before the place is released"
caught KEPT_NO_CHECK "a thread that keeps a chunk because of a fork tests again for the fork"
caught SWEEP_EARLY "the store that a fork is over comes before the sweep"
caught SWEEP_NO_TAKE "free blocks are taken while they are purged"
