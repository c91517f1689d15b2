#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# C++: every form of operator new and delete, what they do without memory, and thread_local objects.
. "${0%/*}/../lib/tap.sh"
need g++

operators=$TMP/operators
if ! g++ -std=c++17 -O1 -pthread -I"$srcdir/t" -Wno-alloc-size-larger-than -o "$operators" \
	"$srcdir/t/helpers/operators.cc" -ldl 2>"$TMP/err"; then
	bail_out "g++ cannot compile the program: $(head -n 3 "$TMP/err")"
fi
OPERATORS_LIB=$SLUICE_LIB
export OPERATORS_LIB

plan 17

# run CASE LABEL
run() {
	out=$(with_sluice "$operators" "$1" 2>&1)
	like "$out, status $?" '^[1-9][0-9]* checks, 0 failed, status 0$' "$2"
}

run symbols "all 20 operators come from the library"
run forms "each form of new has its form of delete"
run no-memory "without memory new_handler is called, then bad_alloc or nullptr results"
run handler-helps "new_handler makes room and the request succeeds"
run containers "strings, vectors and maps in four threads"
run thread-locals "thread_local objects allocate and free in their destructors"
proved_loaded "the program was served by the library"

if g++ -std=c++17 -O1 -fno-builtin -DSHARED -o "$TMP/replaced" "$srcdir/t/helpers/replaced.cc" \
	2>"$TMP/err"; then
	out=$(with_sluice "$TMP/replaced" 2>&1)
	is "$out, status $?" "0 faults, status 0" \
		"a program's own operators serve the other forms as well"
else
	bail_out "g++ cannot compile: $(head -n 3 "$TMP/err")"
fi

# A program may replace only the forms that do not throw, which then ask for more than it does.
cat >"$TMP/nothrow.cc" <<'CC'
#include <cstdio>
#include <new>
void *operator new(std::size_t n, const std::nothrow_t &) noexcept
{
	return ::operator new(n + 40);
}
void *operator new[](std::size_t n, const std::nothrow_t &) noexcept
{
	return ::operator new[](n + 40);
}
struct some { long a[5]; ~some() {} };
int main()
{
	delete new (std::nothrow) some;
	delete[] new (std::nothrow) some[3];
	std::puts("ok");
}
CC
g++ -std=c++17 -O1 -o "$TMP/nothrow" "$TMP/nothrow.cc" 2>"$TMP/err" ||
	bail_out "g++ cannot compile: $(head -n 3 "$TMP/err")"
is "$(with_sluice "$TMP/nothrow" 2>&1)" ok "sizes of blocks that its own nothrow forms made pass"

# A C program that loads modules of C++, so that only they see a runtime, and each its own.
cat >"$TMP/host.c" <<'C'
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
	int (*go[4])(void);
	int bad = 0;

	for (int i = 1; i < argc; i++) {
		void *plug = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);

		if (plug == NULL) {
			puts(dlerror());
			return 2;
		}
		*(void **)&go[i] = dlsym(plug, "plug_go");
	}
	for (int i = 1; i < argc; i++)
		bad |= go[i]();
	return bad;
}
C
gcc -o "$TMP/host" "$TMP/host.c" -ldl 2>"$TMP/err" ||
	bail_out "gcc cannot compile: $(head -n 3 "$TMP/err")"

# plug NAME FLAGS...: a module, as t/helpers/static.cc says.
plug() {
	plug_name=$1
	shift
	g++ -O1 -fno-builtin -fPIC -shared -DPLUG -o "$TMP/$plug_name.so" \
		"$srcdir/t/helpers/static.cc" "$@" 2>"$TMP/err"
}

# loaded LABEL NAME...: a C program with those modules finds no fault.
loaded() {
	label=$1
	shift
	want=
	for _; do
		want="${want}0 faults
"
	done
	# shellcheck disable=SC2046 # one name a word
	out=$(with_sluice "$TMP/host" $(printf "$TMP/%s.so " "$@") 2>&1)
	is "$out, status $?" "${want%?}, status 0" "$label"
}

for catch in 1 2 3; do
	plug gnu$catch -DCATCH=$catch -DHANDLER ||
		bail_out "g++ cannot compile the module: $(head -n 3 "$TMP/err")"
done
loaded \
	"a module of a C program catches std::bad_alloc, nothrow gives NULL, and its handler is called" \
	gnu1
loaded "a module of a C program catches what is thrown as a std::exception" gnu2
loaded "a module of a C program catches what is thrown by catch (...)" gnu3
if plug own -DCATCH=1 -DHANDLER -static-libstdc++ -static-libgcc; then
	loaded "a module with a runtime of its own inside catches what is thrown" own
	loaded "a module with a runtime of its own works beside one without" own gnu1
else
	skip "a module with a runtime of its own inside catches what is thrown" \
		"there is no libstdc++.a"
	skip "a module with a runtime of its own works beside one without" "there is no libstdc++.a"
fi
other=$(ldconfig -p 2>/dev/null |
	sed -n 's/.* => \(.*\/libc++\(abi\)\{0,1\}\.so\.1\)$/\1/p' | sort -u)
# shellcheck disable=SC2086 # one library a word
if [ -n "$other" ] && plug llvm -DCATCH=1 -DHANDLER -nodefaultlibs $other -lgcc_s -lc; then
	loaded "a module of libc++ catches what is thrown" llvm
	loaded "modules of different runtimes each catch what is their own" gnu1 llvm gnu2
else
	skip "a module of libc++ catches what is thrown" "libc++ is not installed"
	skip "modules of different runtimes each catch what is their own" "libc++ is not installed"
fi
cat >"$TMP/nothrow.c" <<'C'
#include <stddef.h>
void *_ZnwmRKSt9nothrow_t(size_t n, const void *tag) __attribute__((weak));
int main(void)
{
	return _ZnwmRKSt9nothrow_t == NULL || _ZnwmRKSt9nothrow_t((size_t)1 << 50, "") != NULL;
}
C
gcc -o "$TMP/nothrow" "$TMP/nothrow.c" 2>/dev/null
with_sluice "$TMP/nothrow"
ok $? "without any runtime a nothrow form gives NULL"
