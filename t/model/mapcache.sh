#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the cache of mappings (t/model/mapcache.pml) holds, and no part of the protocol can
# be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 9

model mapcache
verified "kept memory has one owner, whom ticks reach, and no more is kept than may be"
caught BLIND_TAKE "a slot has to be emptied by comparing what was seen in it"
caught REST_FIRST "the rest of a take may be put back only after the take"
caught JOIN_READ "a neighbour has to be taken before it is joined"
caught RELAXED_PUT "a slot has to be filled by a release"
caught NO_FENCE_PUT "a put needs a fence before it looks whether ticks are told"
caught NO_FENCE_TICK "a tick that will rest needs a fence before it looks at the slots again"
caught NO_LOOK "a tick that will rest has to look at the slots again"
caught NO_CHECK "a free has to compare with the bound after its put"
