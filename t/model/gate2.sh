#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of gate 2 (t/model/gate2.pml) holds, and no part of the protocol can be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 11

model gate2
verified "a heap has one party in its window at a time, and is finished once"
caught NO_MEMBARRIER "without a barrier between mark and take, owner and taker meet inside"
caught NO_GENERATION "a delayed taker must not take the mark of another"
caught NO_OWN_BARRIER "nor may it rely on one that it found, without a barrier of its own"
caught LATE_RELY "or on one that was made after the owner had taken its own back"
caught PLAIN_PENDING "a mark that is stored without a CAS lets somebody into a held heap"
caught EXIT_IGNORED "a holder that does not see its owner's exit leaves the heap unfinished"
caught BACK_EXITED "nor may it put its mark back over that"
caught NO_BUSY_LOOK "a taker has to look whether the owner is inside"
caught FORK_NO_WAIT "so has a fork"
caught RELEASE_UNHELD "which must not let go of a gate that it did not take"
