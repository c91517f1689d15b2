#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of gate 2 where memory is weak (t/model/weak.pml) holds, and no order in it can be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 7

model weak
verified "where loads are early and stores late nobody else is in a heap, and who enters finds what was left there"
caught NO_MEMBARRIER "a taker makes the owner pass a barrier"
caught ENTER_RELAXED "the owner's load of the gate is acquire"
caught LEAVE_RELAXED "its store of busy as it leaves is release"
caught LOOK_RELAXED "the taker's load of busy is acquire"
caught LET_GO_RELAXED "its store of the gate as it lets go is release"
caught NO_LOOK "it looks whether the owner is inside"
