#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# `make install`: a C and a CMake project find what was installed, bash completes the commands'
# options, gdb finds its commands, `make uninstall` leaves no file, and Debian's package takes every
# file.
. "${0%/*}/../lib/tap.sh"
plan 10
tmpdir

root=$TMP/root
if ! make -s -C "$builddir" install DESTDIR="$root" >"$TMP/log" 2>&1; then
	sed 's/^/# /' "$TMP/log"
fi
var() {
	sed -n "s/^$1 = //p" "$builddir/Makefile" | sed -n 1p
}
prefix=$(var prefix)
lib=$(find "$root" -name libsluice.so.0)
is "$([ -n "$lib" ] && LD_PRELOAD=$lib /bin/true 2>&1; echo $?)" 0 \
	"the library is installed and loads"

cat >"$TMP/main.c" <<'EOF'
#include <sluice/sluice.h>
int main(void) { return sluice_version()[0] == 0; }
EOF
pc=$(find "$root" -name sluice.pc)
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --define-variable=prefix="$root$prefix" \
	--cflags --libs sluice 2>"$TMP/err")
# shellcheck disable=SC2086
${CC:-cc} -o "$TMP/main" "$TMP/main.c" $flags 2>>"$TMP/err"
is "$(LD_LIBRARY_PATH=$(dirname "$lib") "$TMP/main" 2>&1; echo $?)" 0 \
	"pkg-config's flags build a program that runs"

cmake=$(dirname "$(find "$root" -name sluice-config.cmake)")
mkdir "$TMP/project"
mv "$TMP/main.c" "$TMP/project"
cat >"$TMP/project/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.16)
project(user C)
find_package(sluice 0.1 REQUIRED)
add_executable(main main.c)
target_link_libraries(main sluice::sluice)
EOF
if ! command -v cmake >/dev/null; then
	skip "CMake's find_package builds a program in a moved tree" "cmake is not installed"
else
	cmake -S "$TMP/project" -B "$TMP/out" -Dsluice_DIR="$cmake" >"$TMP/err" 2>&1 &&
		cmake --build "$TMP/out" >>"$TMP/err" 2>&1
	is "$("$TMP/out/main" 2>&1; echo $?)" 0 \
		"CMake's find_package builds a program in a moved tree"
fi

completions=$(dirname "$(find "$root" -name sluice-run -path '*completions*')")
for tool in bench ctl latency pressure prof run stat top; do
	echo "$tool $(PATH=$builddir/tools:$PATH bash -c '
		. "$1/sluice-$2"
		COMP_WORDS=("sluice-$2" --) COMP_CWORD=1
		_sluice "sluice-$2"
		printf "%s\n" "${COMPREPLY[@]}"' - "$completions" "$tool" | grep -c -x -e --help)"
done >"$TMP/complete"
is "$(grep -c ' 1$' "$TMP/complete")" 8 "bash completes the options of each command"
is "$(PATH=$builddir/tools:$PATH bash -c '
	. "$1/sluice-bench"
	COMP_WORDS=(sluice-bench --re) COMP_CWORD=1
	_sluice sluice-bench
	printf "%s\n" "${COMPREPLY[@]}"' - "$completions")" --repeat "it completes a prefix"
# completed WORD...: what the last word may be
completed() {
	PATH=$builddir/tools:$PATH bash -c '
		. "$1/sluice-run"
		_command_offset() { COMPREPLY=("argument $(($1 + 1)) is the program"); }
		shift
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
		_sluice "$1"
		printf "%s " "${COMPREPLY[@]}"' - "$completions" "$@"
}
is "$(completed sluice-run -o warm)$(completed sluice-ctl set random_b)$(completed sluice-ctl pr)" \
	"warm_heaps: random_base profile " "and the options of the library, and requests"
is "$(completed sluice-run -o idle_ms : 5 sort --par)" "argument 6 is the program " \
	"and leaves the program's arguments to the program's completion"

# Below DESTDIR the library has another path than the one that it is installed for.
mkdir -p "$TMP/auto${root%/*}"
ln -s "$root$prefix/share/gdb/auto-load" "$TMP/auto$root"
if ! command -v gdb >/dev/null; then
	skip "gdb loads its commands with the library" "gdb is not installed"
else
	like "$(gdb --nx --batch -iex 'set auto-load safe-path /' \
		-iex 'set debuginfod enabled off' \
		-iex "set auto-load scripts-directory $TMP/auto" -ex 'help sluice' "$lib" 2>&1)" \
		'^sluice buddy -- ' "gdb loads its commands with the library"
fi

# debian/*.install name the files by patterns of /usr.
find "$root" -type f -o -type l | sed "s|^$root$prefix/||" | sort >"$TMP/files"
sed -e 's|^debian/tmp/||' -e 's|^usr/||' -e 's|lib/\*/|lib/|' -e 's|\.|[.]|g' -e 's|\*|[^/]*|g' \
	-e 's|^|^|' -e 's|$|(/\|$)|' "$srcdir"/debian/*.install "$srcdir"/debian/*.docs |
	sed 's|doc/sluice/\[^/\]\*|doc/sluice|' >"$TMP/patterns"
is "$(grep -v -E -f "$TMP/patterns" "$TMP/files" | grep -v -x lib/libsluice.la)" "" \
	"debian/*.install name every installed file but the libtool archive"

make -s -C "$builddir" uninstall DESTDIR="$root" >"$TMP/log" 2>&1
is "$(find "$root" -type f -o -type l)" "" "make uninstall leaves no file"
