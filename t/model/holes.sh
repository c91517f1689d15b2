#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of holes in slabs (t/model/holes.pml) holds, and no part of the protocol can be left
# out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 8

model holes
verified "no live object is purged, none is handed out twice, and none is lost"
caught CARVED_WHILE_PURGED "a hole must not be carved while it is purged"
caught SCANNED_EARLY "only the thread that holds the slab can tell which objects are free"
caught ONE_FREE_ENOUGH "all objects on a purged unit have to be free"
caught REMOTE_IS_FREE "objects on the remote list are live"
caught LIST_KEPT "the objects of a hole leave the free list"
caught REFUSED_KEPT "the free list is rebuilt also when the kernel refuses"
caught OPENED_LOST "a hole that is carved again gives all its objects"
