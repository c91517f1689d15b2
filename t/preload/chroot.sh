#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Where the library opens files: below directories that it opened at the start, never by a path of a
# later root, and never at a low number.
# TIMEOUT: 200
. "${0%/*}/../lib/tap.sh"
plan 12
tmpdir

places=$builddir/t/helpers/places
jail=$TMP/jail

# hostile NAME...: a new jail that nobody owns, where each name is a FIFO, or with "=" a link to
# $TMP/precious.
hostile() {
	rm -rf "$jail"
	mkdir "$jail"
	for name; do
		mkdir -p "$jail/$(dirname "${name%=}")"
		case $name in
		*=) ln -s /precious "$jail/${name%=}" ;;
		*) mkfifo "$jail/$name" ;;
		esac
	done
	echo precious >"$jail/precious"
	chown -R 65534:65534 "$jail"
	chown 0:0 "$jail/precious"
}

# stays LABEL one|threads: the program ends, and the file is unchanged.
stays() {
	out=$(SLUICE_CONF=${3-} LD_PRELOAD=$SLUICE_LIB timeout 60 \
		"$places" chroot "$jail" "$2" 2>&1)
	is "$out, $(cat "$jail/precious")" "2 checks, 0 failed, precious" "$1"
}

if [ "$(id -u)" = 0 ]; then
	hostile proc/self/cgroup proc/pressure/memory sys/fs/cgroup
	stays "a FIFO for each file does not stop a process" one
	stays "a FIFO for each file does not stop a process with threads" threads
	hostile proc/self/cgroup= proc/pressure/memory= proc/self/task=
	stays "nothing is written where a link leads" threads
	hostile proc/pressure/memory=
	mkdir -p "$jail/proc/self" "$jail/sys/fs/cgroup/unified/a" "$jail/sys/fs/cgroup/memory/a"
	echo '0::/a' >"$jail/proc/self/cgroup"
	for file in memory.pressure memory.max memory.current; do
		ln -s /precious "$jail/sys/fs/cgroup/unified/a/$file"
	done
	stays "nothing is written where a link leads in a false cgroup" threads
	hostile proc/self/cgroup proc/pressure/memory=
	stays "nothing is written where a link leads, with a background thread from the start" \
		threads background:always
else
	for label in one threads link group start; do
		skip "in a chroot: $label" "only root may chroot"
	done
fi

run() {
	out=$(SLUICE_CONF=idle_ms:20,decay_ms:20,$3 LD_PRELOAD=$SLUICE_LIB timeout 100 \
		"$places" "$2" 2>&1)
	status=$?
	if [ "$status" = 77 ]; then
		skip "$1" "no system call filter can be set"
	else
		is "$out, $status" "2 checks, 0 failed, 0" "$1"
	fi
}
run "no descriptor is made once the program runs" calls ""
run "no descriptor is made once the program runs, with control:1" calls control:1
is "$(SLUICE_CONF=idle_ms:20,decay_ms:20 LD_PRELOAD=$SLUICE_LIB timeout 100 "$places" low 2>&1)" \
	"3 checks, 0 failed" \
	"the lowest number is always the program's"

# Our descriptors are just below the limit, and there are none if the process may have no number of
# 100 or more.
numbers_more() {
	ls /proc/self/fd >"$TMP/plain"
	# shellcheck disable=SC2010
	LD_PRELOAD=$SLUICE_LIB ls /proc/self/fd | grep -v -x -F -f "$TMP/plain" |
		awk -v low="$1" '{ n++; low_ones += $1 < low } END { print (n > 0), low_ones + 0 }'
}
# shellcheck disable=SC3045
is "$(ulimit -n 300 && numbers_more 270) $(ulimit -n 60 && numbers_more 270)" "1 0 0 0" \
	"our descriptors are just below the limit, or do not exist"

# An open directory is a way out of a chroot, and an open file a reason not to unmount.
for threads in one threads; do
	is "$(LD_PRELOAD=$SLUICE_LIB timeout 60 "$places" directories "$threads" 2>&1)" \
		"$([ "$threads" = one ] && echo 3 || echo 4) checks, 0 failed" \
		"no directory is open, with $threads"
done
if unshare -m sh -c 'umount /proc' 2>/dev/null; then
	like "$(timeout 60 unshare -m env LD_PRELOAD="$SLUICE_LIB" "$places" unmount /proc 2>&1)" \
		"^[1-9][0-9]* checks, 0 failed$" "/proc can be unmounted"
else
	skip "/proc can be unmounted" "it cannot without the library either"
fi
