# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# For tests of what looks at a running process: sourced after tap.sh and tmpdir.

jobs=
at_exit 'for j in $jobs; do kill "$j" 2>/dev/null; done'

# start NAME SETTINGS COMMAND...: under the library, in the background; sets pid.
start() {
	name=$1 settings=$2
	shift 2
	: >"$TMP/$name"
	SLUICE_CONF=idle_ms:600000,decay_ms:600000,psi:0,cgroup:0,$settings \
		with_sluice sh -c 'echo $$ >"$1" && shift && exec "$@"' sh "$TMP/$name.pid" "$@" \
		>"$TMP/$name" 2>&1 &
	until [ -s "$TMP/$name.pid" ]; do sleep 0.05; done
	pid=$(cat "$TMP/$name.pid")
	jobs="$jobs $pid"
}
