#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-run: what it runs, what it passes on, and what it prints for programs that cannot be
# preloaded.
. "${0%/*}/../lib/tap.sh"
plan 35

run=$builddir/tools/sluice-run
real=$(readlink -f "$SLUICE_LIB")
unset SLUICE_LIB SLUICE_CONF LD_PRELOAD

# try ARGS...: sets out (both streams) and status.
try() {
	out=$("$run" "$@" 2>&1)
	status=$?
}

try sh -c 'echo "$LD_PRELOAD"'
is "$status $out" "0 $real" "the library is first in LD_PRELOAD"
try sh -c 'grep -c "r-xp.*libsluice" /proc/self/maps'
is "$out" 1 "a program that the program starts has the library mapped"
try sh -c 'exit 7'
is "$status" 7 "sluice-run returns the program's status"
# Not a shell: dash leaves by _exit().
try -o "stats_file:$STATS" -- sort /dev/null
proved_loaded "an option reaches the library" sort

# shellcheck disable=SC2016
show='echo "$LD_PRELOAD|${SLUICE_CONF-unset}"'
m=$(ldd /bin/sh | awk '/libc\.so/ { print $3 }')
out=$(LD_PRELOAD=$m "$run" sh -c "$show")
is "$out" "$real:$m|unset" "an existing LD_PRELOAD is kept, behind the library"
out=$(SLUICE_CONF=backtrace:0 "$run" -o backtrace:1 -ovm_fail_count:2 sh -c "$show")
is "$out" "$real|backtrace:0,backtrace:1,vm_fail_count:2" \
	"an existing SLUICE_CONF is kept, before -o"
out=$(SLUICE_CONF='backtrace:0 # mine' "$run" -o '# ours' -o backtrace:1 -o vm_fail_count:2 \
	sh -c "$show")
is "$out" "$real|backtrace:0 # mine
# ours
backtrace:1
vm_fail_count:2" "a comment ends before the next -o"
: >"$STATS"
SLUICE_CONF='decay_ms:500 # mine' "$run" -o "stats_file:$STATS" sort /dev/null
proved_loaded "an option after a comment reaches the library" sort
out=$("$run" -- printf '%s|' -o 'a b' '' c)
is "$out" "-o|a b||c|" "arguments arrive as they were given"
out=$(echo in | "$run" cat)
is "$out" in "standard input is the program's"

printf '#!/bin/sh\necho script "$1"\n' >"$TMP/script"
printf '#!/usr/bin/env sh\necho script "$1"\n' >"$TMP/env-script"
printf '#!%s/nosuch\n' "$TMP" >"$TMP/no-interp"
printf '#!/usr/bin/env no-such-interpreter\n' >"$TMP/no-env"
printf 'echo no first line\n' >"$TMP/text"
chmod +x "$TMP/script" "$TMP/env-script" "$TMP/no-interp" "$TMP/no-env" "$TMP/text"
echo plain >"$TMP/plain"
chmod -x "$TMP/plain"

try "$TMP/script" x
is "$status $out" "0 script x" "a script is run"
try "$TMP/env-script" y
is "$status $out" "0 script y" "a script by way of env is run"

# refused STATUS REGEX LABEL ARGS...: one line, and that status.
refused() {
	want=$1
	regex=$2
	label=$3
	shift 3
	try "$@"
	if [ "$(printf '%s\n' "$out" | wc -l)" -eq 1 ]; then
		like "$status $out" "^$want sluice-run: $regex" "$label"
	else
		is "$out" "one line" "$label"
	fi
}

refused 126 ".*/no-interp: its interpreter .*/nosuch is not there" \
	"a script without interpreter is refused" "$TMP/no-interp"
refused 127 "no-such-interpreter: not found in PATH" "a script whose env finds nothing is refused" \
	"$TMP/no-env"
refused 126 ".*/text: neither" "a text file that is not a script is refused" "$TMP/text"
refused 126 ".*/plain: not executable" "a file that is not executable is refused" "$TMP/plain"
refused 126 ".*: is a directory" "a directory is refused" "$TMP"
refused 127 "no-such-program: not found in PATH" "a name that is not in PATH is refused" \
	no-such-program
refused 127 "'': not found in PATH" "an empty name is shown" ""
refused 127 "/no/such: not found" "a path that does not exist is refused" /no/such
refused 125 "no program given" "a missing program is refused"
refused 125 "unknown option -x" "an unknown option is refused" -x sh
refused 125 "unknown option --long" "an unknown long option is refused" --long sh
refused 125 "option -o needs an argument" "an option without its argument is refused" -o

# Made from a real program by changing its class: no 32-bit program need be installed.
elf=$(readlink -f "$(command -v cat)")
cp "$elf" "$TMP/elf32"
printf '\001' | dd of="$TMP/elf32" bs=1 seek=4 conv=notrunc 2>/dev/null
refused 126 ".*/elf32: is a 32-bit program" "a program of another word size is refused" "$TMP/elf32"
cp "$elf" "$TMP/other"
printf '\377\176' | dd of="$TMP/other" bs=1 seek=18 conv=notrunc 2>/dev/null
refused 126 ".*/other: is for another machine" "a program for another machine is refused" \
	"$TMP/other"

if command -v gcc >/dev/null 2>&1 && echo 'int main(void) { return 0; }' >"$TMP/static.c" &&
	gcc -static -o "$TMP/static" "$TMP/static.c" 2>/dev/null; then
	refused 126 ".*/static: is statically linked" "a static program is refused" "$TMP/static"
	printf '#!%s/static\n' "$TMP" >"$TMP/static-script"
	chmod +x "$TMP/static-script"
	refused 126 ".*/static: is statically linked" \
		"a script with a static interpreter is refused" "$TMP/static-script"
else
	skip "a static program is refused" "gcc -static does not work here"
	skip "a script with a static interpreter is refused" "gcc -static does not work here"
fi

# As a user who does not own the file.
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null 2>&1 && [ -r /proc/self/status ]; then
	nobody="setpriv --reuid 65534 --regid 65534 --clear-groups"
	dir=$(mktemp -d /tmp/sluice-test.XXXXXX)
	at_exit "rm -rf $dir"
	chmod 755 "$dir"
	# The library where nobody can read it, whatever the tree's own permissions are.
	cp "$real" "$dir/libsluice.so"
	cp "$run" "$dir/sluice-run"
	chmod 755 "$dir/sluice-run" "$dir/libsluice.so"
	cp "$elf" "$dir/suid"
	chmod 4755 "$dir/suid"
	cp "$elf" "$dir/sgid"
	chmod 2755 "$dir/sgid"
	run="env SLUICE_LIB=$dir/libsluice.so $nobody $dir/sluice-run"
	try_as() {
		out=$($run "$@" 2>&1 </dev/null)
		status=$?
	}
	try_as "$dir/suid"
	like "$status $out" '^126 sluice-run: .*/suid: is setuid' "a setuid program is refused"
	try_as "$dir/sgid"
	like "$status $out" '^126 sluice-run: .*/sgid: is setgid' "a setgid program is refused"
	run=$dir/sluice-run
	out=$(SLUICE_LIB=$dir/libsluice.so "$run" "$dir/suid" </dev/null 2>&1)
	is "$? $out" "0 " "a setuid program of the caller's own is run: it gains nothing"
else
	skip "a setuid program is refused" "not root"
	skip "a setgid program is refused" "not root"
	skip "a setuid program of the caller's own is run: it gains nothing" "not root"
fi

run=$builddir/tools/sluice-run
out=$(SLUICE_LIB=/no/such.so "$run" sh 2>&1)
is "$? $out" "125 sluice-run: SLUICE_LIB=/no/such.so: there is no such library" \
	"a library that does not exist is refused"
try --version
like "$status $out" '^0 sluice-run [0-9]+\.[0-9]+' "--version prints the version"
try --help
like "$status $out" '^0 Usage: sluice-run' "--help prints the usage"
like "$out" '^  stats_file:string' "--help lists the library's options"
