#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# bash: arrays, string building, subshells, pipes, here documents, process substitution.
. "${0%/*}/../lib/tap.sh"
need bash
plan 4

cat >"$TMP/test.bash" <<'BASH'
set -e
declare -A map
for ((i = 0; i < 8000; i++)); do map["key $((i * 7919 % 4001))"]+="v$i "; done
n=0; for k in "${!map[@]}"; do n=$((n + ${#map[$k]})); done
echo "${#map[@]} keys, $n characters"
s=; for ((i = 0; i < 3000; i++)); do s+="line $i of a long string "; done
echo "${#s} characters, ${#s[@]} element, ${s:5000:20}"
t=${s//line/LINE}; t=${t^^}; echo "${t:40000:30}"
for ((i = 0; i < 40; i++)); do r[i]=$(echo "$i" | { read -r x; echo $((x * x)); }); done
echo "${r[*]}"
mapfile -t lines < <(seq 1 20000); echo "${#lines[@]} lines, last ${lines[-1]}"
f() { if (($1 == 0)); then echo bottom; else f $(($1 - 1)); fi; }; f 200
cat <<END | sort -r | head -n 3
$(seq 100 120)
END
(exit 7) || echo "subshell $?"
sleep 0.1 & wait $!; echo "waited $?"
[[ "abc123def" =~ ([a-z]+)([0-9]+) ]] && echo "${BASH_REMATCH[2]}"
BASH

want=$(bash "$TMP/test.bash")
out=$(with_sluice bash "$TMP/test.bash" 2>&1)
is "$?" 0 "bash ends well"
is "$out" "$want" "bash says the same as without the library"
# Debian's bash has no malloc of its own; one that has would not be served.
proved_loaded "bash was served by the library" bash

# bash takes a number from 10 on that closes on exec for a descriptor that it saved itself.
cat >"$TMP/numbers.bash" <<'BASH'
for n in 100 101 102 103 104 200 250; do
	eval "exec $n>'$TMP/file$n'"
	echo "$n $(readlink /proc/$$/fd/$n)"
	eval "echo written >&$n"
	cat "$TMP/file$n"
done
f() { echo in >&103; }
f 103>"$TMP/locked"
cat "$TMP/locked"
BASH
export TMP
want=$(bash "$TMP/numbers.bash" 2>&1)
is "$(with_sluice bash "$TMP/numbers.bash" 2>&1)" "$want" \
	"exec takes the numbers that a script chooses"
