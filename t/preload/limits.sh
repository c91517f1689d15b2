#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# When there is no memory: limits on address space and data, and mappings that fail.
# TIMEOUT: 300
. "${0%/*}/../lib/tap.sh"
need prlimit util-linux

limits=$builddir/t/helpers/limits
mib=1048576
passed='^[1-9][0-9]* checks, 0 failed, status 0$'

plan 66

# Programs that fit still run. under LIMIT PROGRAM ARGS...: the limit is the program's only.
under() {
	limit=$1
	shift
	with_sluice prlimit "$limit" "$@"
}

cat >"$TMP/fits.py" <<'PYTHON'
import json
d = {str(i): [i] * 20 for i in range(50000)}
print(len(json.dumps(d)), len(b"x" * (30 << 20)))
PYTHON
cat >"$TMP/fits.pl" <<'PERL'
my %h = map { $_ => "v" x 100 } 1 .. 100000;
my $s = "y" x 30_000_000; print scalar(keys %h), " ", length $s;
PERL
cat >"$TMP/fits.sql" <<'SQL'
create table t(a, b);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000)
insert into t select i, hex(randomblob(50)) from n;
create index x on t(b);
select count(*), sum(length(b)) from t;
SQL

# fits SUFFIX: the program for it
fits() {
	case $1 in
	py) echo /usr/bin/python3 "$TMP/fits.py" ;;
	pl) echo perl "$TMP/fits.pl" ;;
	sql) echo sqlite3 -init "$TMP/fits.sql" :memory: .quit ;;
	esac
}

for suffix in py pl sql; do
	program=$(fits $suffix)
	want=$($program 2>/dev/null)
	for size in 8192 1024 256; do
		for kind in as data; do
			label="$(basename "${program%% *}") runs within $size MiB ($kind)"
			if ! command -v "${program%% *}" >/dev/null; then
				skip "$label" "it is not installed"
				continue
			fi
			# shellcheck disable=SC2086
			out=$(under --$kind=$((size * mib)) $program 2>"$TMP/err")
			is "$?, $out" "0, $want" "$label"
			[ "$out" = "$want" ] || diag "$(tail -n 3 "$TMP/err")"
		done
	done
done

# By each member until it returns NULL; nearly all of the limit must be usable, and again after
# free.
for member in malloc calloc realloc reallocarray aligned_alloc memalign posix_memalign valloc \
	pvalloc; do
	out=$(under --as=$((256 * mib)) "$limits" exhaust "$member" 180 2>"$TMP/err")
	like "$out, status $?" "$passed" "$member up to a limit of 256 MiB of address space"
	diag "$(cat "$TMP/err")"
done
for member in malloc memalign; do
	out=$(under --data=$((256 * mib)) "$limits" exhaust "$member" 200 2>"$TMP/err")
	like "$out, status $?" "$passed" "$member up to a limit of 256 MiB of data"
	diag "$(cat "$TMP/err")"
done
out=$(under --as=$((1024 * mib)) "$limits" exhaust malloc 900 2>&1)
like "$out, status $?" "$passed" "malloc up to a limit of 1 GiB of address space"

# One size up to the limit: nearly all of it, a few mapping calls for refused requests, and all of
# it again. 3,000 requests are refused by plan; each asks the kernel twice or three times.
for size in 40 64 900 20000 700000; do
	: >"$STATS"
	out=$(under --as=$((400 * mib)) "$limits" fill $size 93 2>"$TMP/err")
	like "$out, status $?" "$passed" \
		"blocks of $size bytes up to 400 MiB of address space, and again"
	diag "$(cat "$TMP/err")"
	calls=$(sed -n 's/.* vm_calls=\([0-9]*\).*/\1/p' "$STATS" | tail -n 1)
	ok "$(test "${calls:-1000000}" -lt 25000; echo $?)" \
		"blocks of $size bytes took few mapping calls ($calls)"
done

for size in 40 900 20000 700000; do
	out=$(under --data=$((400 * mib)) "$limits" fill $size 90 2>"$TMP/err")
	like "$out, status $?" "$passed" "blocks of $size bytes up to 400 MiB of data, and again"
	diag "$(cat "$TMP/err")"
done

# A limit that is set when the program has grown.
for size in 100 700; do
	out=$(with_sluice "$limits" late $size 2>"$TMP/err")
	like "$out, status $?" "$passed" \
		"a limit on address space set by a program that has $size MiB"
	diag "$(cat "$TMP/err")"
done

# Each mapping call of the library fails, one after the other. FAULTS_END: it works again
# afterwards.
faults() {
	bad=''
	refused=0
	n=$3
	while [ "$n" -le "$4" ]; do
		out=$(SLUICE_CONF="vm_fail_at:$n,vm_fail_count:$2"
			with_sluice "$limits" faults 2>"$TMP/err")
		if ! printf '%s\n' "$out, status $?" | grep -q -E "$passed"; then
			bad="$bad $n"
			diag "mapping $n: $out"
			diag "$(tail -n 3 "$TMP/err")"
		fi
		got=$(sed -n 's/^refused //p' "$TMP/err")
		refused=$((refused + ${got:-0}))
		n=$((n + 1))
	done
	is "$bad" "" "$1: NULL and ENOMEM, or success, and all data whole"
	if [ "$2" -gt 1 ]; then
		ok "$(test $refused -gt 0; echo $?)" "$1: requests were refused ($refused)"
	fi
}

FAULTS_END=1
export FAULTS_END
faults "one mapping fails, the 1st to the 40th" 1 1 40
faults "16 mappings fail from the 1st to the 20th on" 16 1 20
unset FAULTS_END
faults "all mappings fail from the 3rd to the 15th on" 1000000 3 15

out=$(with_sluice "$limits" churn 2>"$TMP/err")
like "$out, status $?" "$passed" \
	"growing and purging with 8 threads keeps the number of mappings bounded"
diag "$(cat "$TMP/err")"

# A process that may have few more mappings (vm.max_map_count).
mappings_left()
{
	label=$1
	shift
	out=$(with_sluice "$limits" mappings "$@" 2>"$TMP/err")
	status=$?
	if [ $status -eq 77 ]; then
		skip "$label" "the kernel allows too many mappings"
		return
	fi
	like "$out, status $status" "$passed" "$label"
	diag "$(cat "$TMP/err")"
}
for left in 2 4 10; do
	mappings_left "with $left mappings left, 200 MiB can be allocated" $left 200
	for mb in 16 50; do
		mappings_left "with $left mappings left, 400 MiB in blocks of $mb MB" \
			$left 400 ${mb}000000
	done
done

label="what the program maps where the library gave up address space is not counted as ours"
out=$(with_sluice "$limits" away 1024 2>"$TMP/err")
like "$out, status $?" "$passed" "$label"
diag "$(cat "$TMP/err")"
label="the kernel is not asked for each page that is not mapped"
if ! strace -f -o "$TMP/trace" true 2>"$TMP/err"; then
	skip "$label" "strace cannot trace here: $(tail -n 1 "$TMP/err")"
else
	with_sluice strace -f -e trace=mincore -o "$TMP/trace" "$limits" away 1024 >"$TMP/out" 2>&1
	n=$(grep -c 'mincore(' "$TMP/trace")
	ok $((n < 20 || n > 2000)) "$label ($n calls)"
fi

proved_loaded "the program was served by the library" limits

# A setuid program: the loader leaves the library out, and nothing else happens.
id=$(command -v id)
cp "$id" "$TMP/id" && chmod 4755 "$TMP/id"
if [ "$(id -u)" -ne 0 ]; then
	skip "a setuid program runs without the library" "making one needs root"
	skip "a setuid program writes no statistics" "making one needs root"
elif [ "$(setpriv --reuid=nobody --clear-groups "$TMP/id" -u 2>&1)" != 0 ]; then
	skip "a setuid program runs without the library" "$TMP is mounted nosuid"
	skip "a setuid program writes no statistics" "$TMP is mounted nosuid"
else
	: >"$STATS"
	out=$(LD_PRELOAD="$SLUICE_LIB" SLUICE_CONF="stats_file:$STATS" \
		setpriv --reuid=nobody --clear-groups "$TMP/id" -u 2>"$TMP/err")
	is "$?, $out" "0, 0" "a setuid program runs without the library"
	is "$(grep -c ' program=id ' "$STATS")" 0 "a setuid program writes no statistics"
fi
