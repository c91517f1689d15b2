#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the library's own memory (t/model/meta.pml) holds, and no part of the protocol can be
# left out.
# TIMEOUT: 300
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 6

model meta
verified "no piece has two owners, and each chunk is on the list or unmapped"
caught USED_STORED "a place has to be taken by one atomic addition"
caught NEXT_STORED "the next chunk has to be put on the list by a CAS"
caught CURRENT_STORED "the current chunk has to be compared, or it moves back"
caught FILLED_LATE "a chunk has to be complete before it is on the list"
caught LOSER_FORGETS "who finds another chunk on the list has to unmap its own"
