#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Make ./configure from configure.ac. Only for a clone of the repository: a released archive has it.
set -e
cd "$(dirname "$0")"
mkdir -p m4
exec autoreconf --force --install --warnings=all "$@"
