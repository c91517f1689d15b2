#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the heap claim on weakly ordered memory (t/model/weak.pml) holds, and each order in
# it is needed.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 7

model weak
verified \
	"with early loads and late stores a heap has one party inside, which finds what was left there"
caught NO_MEMBARRIER "the claimer makes the owner pass a barrier"
caught ENTER_RELAXED "the owner's load of the claim is acquire"
caught EXIT_RELAXED "the owner's store of busy at its exit is release"
caught CHECK_RELAXED "the claimer's load of busy is acquire"
caught RELEASE_RELAXED "the claimer's store of the claim at its release is release"
caught NO_CHECK "the claimer checks whether the owner is inside"
