#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What threads allocate while another one forks: a few mappings, none of which is left at the end.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 2

passes \
	"150 forks while eight threads allocate: no call fails, at most 4 mappings a fork, none is left" \
	"no call met a fork" psi:0,cgroup:0 "$builddir/t/helpers/arena" 150
proved_loaded "the program was served by the library" arena
