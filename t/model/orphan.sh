#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of who takes an orphan (t/model/orphan.pml) holds, and no part of the protocol can be
# left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 5

model orphan
verified "an orphan is taken once, and no heap has two threads"
caught TID_STORED "the TID of an orphan has to be compared: another thread may have reaped it"
caught PROCESS_ONLY "the TID of an orphan has to be changed, or another thread reaps the heap again"
caught PROCESS_STORED "the process of an orphan has to be compared: another thread may have it"
caught TID_NOT_CLEARED "who reaps a heap has to change its TID"
