#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the arena's chunks (t/model/arena.pml) holds, and no part of it can be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 10

model arena
verified "objects lie in mapped memory of their own, and no chunk is left mapped or unmapped twice"
caught BASE_EARLY "the address is read after a place was taken, for the chunk may be another by then"
caught DEAD_SHARED "a block whose last object is gone gives no more"
caught WORD_KEPT "the word of a block is cleared before the block is let go"
caught UNMAP_NO_CAS "the step that lets go of the last block makes the chunk its own"
caught FREE_LOOKS "of two that free an object one clears the bit"
caught START_LATE "it is cleared before the place is let go"
caught KEPT_NO_LOOK "who leaves a chunk because of a fork looks again whether that is over"
caught SWEEP_EARLY "the end of a fork is said before the sweep"
caught SWEEP_NO_TAKE "free blocks are taken while they are purged"
