#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Namespaces, directories, descriptors and privileges belong to each thread: no thread of the
# library keeps what the program has given up.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
plan 35
tmpdir

differ=$builddir/t/helpers/differ

# case_passes LABEL CASE...: the program says that all is well, or that it is not possible here.
case_passes() {
	label=$1
	shift
	out=$(SLUICE_CONF=$conf LD_PRELOAD=$SLUICE_LIB timeout 100 "$differ" "$@" 2>&1)
	if [ $? = 77 ]; then
		skip "$label" "the kernel or the user's rights do not allow it"
	else
		like "$out" "^[1-9][0-9]* checks, 0 failed$" "$label"
	fi
}

conf=psi:0,cgroup:0
for change in mounts mounts-by-number directory files range range-by-number network enters; do
	case_passes "after its last thread has ended, nothing keeps the old $change" joined $change
	case_passes "nor does ours come again beside a thread that keeps it: $change" beside $change
done
for change in no-new-privileges bounding-set capabilities capabilities-by-number user landlock; do
	case_passes "after its last thread has ended, nothing keeps the old $change" joined $change
	case_passes "beside a thread that keeps it a new one comes: $change" again $change
done
conf=reserve:8M,psi:0,cgroup:0
case_passes "with a reserve as well" joined directory
case_passes "beside a thread, with a reserve" beside files
conf=background:always,psi:0,cgroup:0
case_passes "with background:always" joined directory
conf=psi:0,cgroup:0
case_passes "where the call fails our thread comes again" fails
case_passes "a child of vfork changes only itself" vfork
case_passes "threads that change, start and end at the same time" storm
is "$(LD_PRELOAD=$SLUICE_LIB timeout 60 /usr/bin/python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
print(libc.close_range(900, 901, 0), libc.syscall(-1), ctypes.get_errno(), end=" ")
none = libc.syscall(511), libc.syscall(ctypes.c_long(1 << 40))
print(*none, libc.capset(0, 0), ctypes.get_errno())' 2>&1)" \
	"0 -1 38 -1 -1 -1 14" "close_range, capset and syscall are what they are in the C library"
