#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the background thread's sleep (t/model/park.pml) holds, and no part of it can be left
# out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 6

model park
verified "the background thread does not sleep on while something is cached"
verified "nor where memory is weak" -DWEAK
caught NO_BARRIER "without a barrier before the second look it does"
caught NO_SECOND_LOOK "without a second look as well"
caught BLIND_SLEEP "it has to compare the word as it falls asleep"
caught LATE_LOOK "who caches has to look at the word afterwards"
