#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# gcc and g++ compile something sizeable: the same objects come out.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
need gcc
need g++
plan 7

awk 'BEGIN {
	print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>"
	for (i = 0; i < 100; i++) {
		printf "struct s%d { int a[%d]; double d; char c[%d]; };\n",
			i, i % 17 + 1, i % 31 + 1
		printf "static int f%d(struct s%d *p, int n) { int r = 0;\n", i, i
		printf "for (int i = 0; i < n; i++) { p->a[i %% %d] += i * %d; ", i % 17 + 1, i
		printf "switch (i %% 5) { case 0: r ^= p->a[0]; break; "
		printf "case 1: r += (int)p->d; break; "
		printf "case 2: r -= p->c[0]; break; default: r *= 3; } }\nreturn r; }\n"
	}
	print "int main(void) { unsigned t = 0;"
	for (i = 0; i < 100; i++) {
		printf "{ struct s%d *p = calloc(1, sizeof *p); ", i
		printf "t += (unsigned)f%d(p, %d); free(p); }\n", i, i % 50
	}
	print "printf(\"%u\\n\", t); return 0; }"
}' >"$TMP/big.c"

awk 'BEGIN {
	print "#include <map>\n#include <string>\n#include <vector>\n#include <iostream>"
	print "#include <algorithm>\n#include <memory>"
	print "template <int N> struct fib {"
	print "static constexpr int v = (fib<N - 1>::v + fib<N - 2>::v) % 1000003; };"
	print "template <> struct fib<0> { static constexpr int v = 0; };"
	print "template <> struct fib<1> { static constexpr int v = 1; };"
	for (i = 0; i < 10; i++) {
		printf "struct t%d { int x; std::string s; ", i
		printf "bool operator<(const t%d &o) const { return x < o.x; } };\n", i
		printf "int g%d() { std::map<std::string, std::vector<t%d>> m; ", i, i
		printf "m[\"a\"].push_back({%d, \"b\"}); ", i
		printf "std::sort(m[\"a\"].begin(), m[\"a\"].end()); return m[\"a\"][0].x; }\n"
	}
	print "int main() { int t = fib<600>::v;"
	for (i = 0; i < 10; i++) printf "t += g%d();", i
	print "std::cout << t << std::endl; }"
}' >"$TMP/big.cc"

cd "$TMP" || exit 1
if ! gcc -O2 -g -c big.c -o plain.o || ! g++ -O1 -std=c++17 -c big.cc -o plain-cc.o; then
	bail_out "the compiler cannot compile the test's files"
fi

: >"$STATS"
with_sluice gcc -O2 -g -c big.c -o sluice.o
ok $? "gcc compiles 100 functions"
ok "$(cmp plain.o sluice.o >&2; echo $?)" "gcc writes the same object"
proved_loaded "the compiler itself (cc1) was served by the library" cc1
with_sluice g++ -O1 -std=c++17 -c big.cc -o sluice-cc.o
ok "$?$(cmp plain-cc.o sluice-cc.o >&2; echo $?)" "g++ compiles templates to the same object"
proved_loaded "the compiler itself (cc1plus) was served by the library" cc1plus
with_sluice gcc sluice.o -o program && with_sluice g++ sluice-cc.o -o program-cc
ok $? "gcc and g++ link both programs"
gcc plain.o -o plain && g++ plain-cc.o -o plain-cc
is "$(with_sluice ./program) $(with_sluice ./program-cc)" "$(./plain) $(./plain-cc)" \
	"both programs run as those built without the library"
