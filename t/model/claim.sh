#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the heap claim (t/model/claim.pml) holds, and no part of the protocol can be left
# out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 11

model claim
verified "a heap has one party in its critical section at a time, and is finished once"
caught NO_MEMBARRIER "without a barrier between mark and claim, owner and claimer meet inside"
caught NO_EPOCH "a claimer must not accept a mark that was made after its barrier"
caught MARK_UNLOCKED "an epoch is not closed before all its marks are there"
caught EXIT_IGNORED "a claimer that does not see its owner's end leaves the heap unfinished"
caught BACK_EXITED "a claimer must not put its mark back over its owner's end"
caught NO_BUSY_LOOK "a claimer has to check whether the owner is inside"
caught FORK_NO_WAIT "a fork has to wait for the owner to be outside"
caught FORK_NO_MARK "a fork has to mark, too"
caught FORK_SEEN_EARLY "the owner looks for a fork after it has taken its mark back"
caught FORK_LATE "a fork says that it is under way before it looks at the heaps"
