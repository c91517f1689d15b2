#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# postgres: initdb, pgbench with four clients, a fast stop and a restart. It refuses to run as root.
# TIMEOUT: 240
. "${0%/*}/../lib/tap.sh"

bin=
for dir in $(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -r); do
	if [ -x "$dir/initdb" ] && [ -x "$dir/pgbench" ]; then
		bin=$dir
		break
	fi
done
[ -n "$bin" ] || skip_all "initdb and pgbench are not installed (Debian package postgresql)"

as=
if [ "$(id -u)" -eq 0 ]; then
	id postgres >/dev/null 2>&1 || skip_all \
		"root cannot run postgres, and there is no user postgres"
	need setpriv util-linux
	as="setpriv --reuid=postgres --regid=postgres --clear-groups"
fi
plan 9

# A place that the user may read.
cp "$SLUICE_LIB" "$TMP/libsluice.so"
SLUICE_LIB=$TMP/libsluice.so
mkdir "$TMP/run"
chmod 777 "$TMP/run"
cd "$TMP/run" || exit 1
data=$TMP/run/data
export PGHOST="$TMP/run" PGUSER=postgres PGDATABASE=postgres LC_ALL=C
export HOME="$TMP/run"

# pg PROGRAM ARGS..., pg_sluice PROGRAM ARGS...: as a user that it accepts
pg() {
	program=$bin/$1
	shift
	# shellcheck disable=SC2086
	$as "$program" "$@"
}
pg_sluice() {
	program=$bin/$1
	shift
	# shellcheck disable=SC2086
	with_sluice $as "$program" "$@"
}

pg_sluice initdb -D "$data" -U postgres -A trust -N >"$TMP/log" 2>&1
ok $? "initdb"
echo "unix_socket_directories = '$TMP/run'
listen_addresses = ''
fsync = off
shared_buffers = 32MB
max_parallel_workers_per_gather = 2
min_parallel_table_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0" >>"$data/postgresql.conf"
at_exit 'pg pg_ctl -D "$data" -m immediate stop >/dev/null 2>&1'

pg_sluice pg_ctl -D "$data" -l "$TMP/run/log" -w start >/dev/null 2>&1
ok $? "the server starts"
proved_mapped "the server has the library mapped" "$(head -n 1 "$data/postmaster.pid")"
{ pg_sluice pgbench -i -s 2 -q && pg_sluice pgbench -n -c 4 -j 2 -t 250; } >"$TMP/out" 2>&1
like "$?, $(cat "$TMP/out")" 'number of transactions actually processed: 1000/1000' \
	"pgbench runs 1,000 transactions"
is "$(pg psql -X -A -t -c 'select
	(select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history),
	(select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history),
	count(*) from pgbench_history')" \
	"t|t|1000" "the balances agree with the history"
is "$(pg_sluice psql -X -A -t -c "select count(*), sum(length(s)),
	md5(string_agg(s, ',' order by s)) from
	(select repeat(md5(i::text), i % 50) s from generate_series(1, 30000) i) x" 2>&1)" \
	"30000|23520000|$(pg psql -X -A -t -c "select md5(string_agg(s, ',' order by s)) from
	(select repeat(md5(i::text), i % 50) s from generate_series(1, 30000) i) x")" \
		"sorts and aggregates of 23 MB give the same as without the library"
pg_sluice pg_ctl -D "$data" -m fast -w stop >/dev/null 2>&1
is "$?, $(grep -c -E 'PANIC|terminated by signal|server process .* was terminated' \
	"$TMP/run/log")" "0, 0" \
	"the server stops, and no process of it crashed"
proved_loaded "the server was served by the library" postgres
pg pg_ctl -D "$data" -l "$TMP/run/log" -w start >/dev/null 2>&1
is "$(pg psql -X -A -t -c 'select count(*) from pgbench_accounts')" 200000 \
	"a server without the library reads what it wrote"
