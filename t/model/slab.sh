#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of a slab's state word (t/model/slab.pml) holds, and no part of the protocol can be left
# out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 8

model slab
verified "no object is lost, and a slab is in one inbox, adopted by one, and given back once"
caught SPLIT_WORD "a batch must not land on a slab that has just become abandoned"
caught POSTED_IGNORED "a slab that is posted keeps its owner"
caught ABANDON_SPLIT "the step that abandons a slab checks that it is not posted"
caught ADOPT_NO_LOCK "without the pool's lock a slab is adopted twice"
caught ADOPT_NO_CHECK "an adopter reads the state again under the lock"
caught POSTED_BY_ALL "only the first free posts, or a slab is in an inbox twice"
caught INBOX_LOST "drains open the inbox of a heap whose thread has ended"
