#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of how threads wait for a lock (t/model/lock.pml) holds, and no part of it can be left
# out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 9

model lock
verified "nobody sleeps on beside a free lock, and two threads never hold it"
caught NO_WAKE "a release has to wake a sleeper"
caught EARLY_LOOK "it has to let go before it looks for one"
caught NO_LOOK "a waiter has to look again after it has marked the lock"
caught BLIND_SLEEP "it has to compare the mark as it falls asleep"
caught NO_COUNT "by the number of releases, not by the mark alone"
caught NO_MARK_AGAIN "a woken thread has to mark the lock for those that sleep on"
caught KEEP_WAKE "one that gives up has to pass its wake-up on"
caught BLIND_TAKE "the lock has to be looked at and taken in one step"
