#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of how threads wait for a lock (t/model/lock.pml) holds, and no part of the protocol can
# be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 9

model lock
verified "no thread stays asleep beside a free lock, and two threads never hold it"
caught NO_WAKE "a release has to wake a sleeper"
caught EARLY_LOOK "a release has to free the lock before it checks for a sleeper"
caught NO_LOOK "a waiter has to check again after it has marked the lock"
caught BLIND_SLEEP "a waiter has to compare the mark as it falls asleep"
caught NO_COUNT "a waiter has to compare the number of releases, not the mark alone"
caught NO_MARK_AGAIN "a woken thread has to mark the lock for the threads that still sleep"
caught KEEP_WAKE "a waiter that gives up has to pass its wake-up on"
caught BLIND_TAKE "the lock has to be tested and taken in one step"
