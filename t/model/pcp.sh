#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# The model of the pcp drain (t/model/pcp.pml) holds, and no part of it can be left out.
TAP_NO_LIBRARY=1
. "${0%/*}/../lib/tap.sh"
. "${0%/*}/../lib/spin.sh"
plan 6

model pcp
verified "a pcp has one party inside, loses nothing, and stays empty once it is disabled"
caught FLAG_NO_LOCK "a flag that is set without the lock lets a run in after the disable"
caught BIRTH_NO_LOOK "a pcp that is made during the disable has to check it"
caught BOTH_LOCKS "pcp and buddy core held together, in both orders, end in a deadlock"
caught OWNER_WAITS "an owner that waits for its lock waits for itself in a signal handler"
caught EARLY_UNLOCK "the lock has to be let go last"
