#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the background thread's sleep (t/model/park.pml) holds, and no part of the protocol
# can be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 6

model park
verified "the background thread does not stay asleep while something is cached"
verified "the background thread does not stay asleep on weak memory either" -DWEAK
caught NO_BARRIER "a barrier has to come before the second check"
caught NO_SECOND_LOOK "the background thread has to check a second time"
caught BLIND_SLEEP "the background thread has to compare the word as it falls asleep"
caught LATE_LOOK "a thread that caches has to check the word afterwards"
