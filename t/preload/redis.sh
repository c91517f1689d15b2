#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# redis-server under redis-benchmark, with background saves (fork). Debian's is linked with
# jemalloc, but the library must answer its malloc.
. "${0%/*}/../lib/tap.sh"
need redis-server
need redis-benchmark redis-tools
plan 11

sock=$TMP/sock
cli() {
	redis-cli -s "$sock" "$@"
}

# start COMMAND...: a server that listens on $sock alone; its process in $pid
start() {
	"$@" redis-server --port 0 --unixsocket "$sock" --dir "$TMP" --save '' --appendonly no \
		--daemonize no --lazyfree-lazy-user-del yes --enable-debug-command local \
		>>"$TMP/log" 2>&1 &
	pid=$!
	for _ in $(seq 600); do
		[ "$(cli ping 2>/dev/null)" = PONG ] && return 0
		sleep 0.1
	done
	diag "$(tail -n 5 "$TMP/log")"
	return 1
}
at_exit '[ -z "${pid-}" ] || kill "$pid" 2>/dev/null'

# The shell that runs with_sluice becomes env, then redis-server: $pid is the server.
start with_sluice
ok $? "redis-server answers"
server=$(cli info server | sed -n 's/^process_id:\([0-9]*\).*/\1/p')
proved_mapped "redis-server has the library mapped" "$server"

out=$(redis-benchmark -s "$sock" -n 20000 -c 20 -r 20000 -d 200 \
	-q -t set,get,lpush,hset,zadd,spop,mset 2>&1)
is "$?, $(printf '%s' "$out" | tr '\r' '\n' | grep -c 'requests per second')" "0, 7" \
	"redis-benchmark runs its load"

# Its data depends on these commands alone.
cli flushall async >/dev/null
awk 'BEGIN { for (i = 0; i < 60000; i++) {
	printf "SET key:%d %0*d\r\n", i, i % 500 + 1, i
	if (i % 3 == 0) printf "HSET hash:%d field:%d %d\r\n", i % 100, i, i
	if (i % 5 == 0) printf "RPUSH list:%d item-%d\r\n", i % 50, i
	if (i % 7 == 0) printf "APPEND key:%d -appended-\r\n", i / 2
	if (i % 4 == 0) printf "DEL key:%d\r\n", i / 3
} }' >"$TMP/commands"
like "$(cli --pipe <"$TMP/commands")" 'errors: 0, replies: [1-9]' \
	"60,000 keys are set, appended to and deleted"
keys="$(cli dbsize), $(cli debug digest)"

redis-benchmark -s "$sock" -n 30000 -c 10 -q -t get >/dev/null 2>&1 &
load=$!
cli bgsave >/dev/null
for _ in $(seq 600); do
	cli info persistence | grep -q '^rdb_bgsave_in_progress:0' && break
	sleep 0.1
done
wait $load
like "$(cli info persistence)" '^rdb_last_bgsave_status:ok' "a background save under load ends well"
cli memory purge >/dev/null
is "$(cli get key:59999 | sed 's/^0*//')" 59999 "values are as they were set"
like "$(cli info memory)" '^used_memory:[1-9]' "redis-server knows how much memory it uses"
cli shutdown nosave
wait "$pid"
is $? 0 "redis-server ends well"
proved_loaded "redis-server was served by the library" redis-server
# 60,000 values of 250 bytes are 15 MB: they were not served by jemalloc.
slabs=$(grep ' program=redis-server ' "$STATS" |
	sed 's/.* slabs_made=\([0-9]*\).*/\1/' | sort -n | tail -n 1)
ok "$(test "${slabs:-0}" -ge 30; echo $?)" \
	"the server's data was in the library's slabs (${slabs:-0} of them)"

# What it wrote, read by a server without the library.
start env
is "$(cli dbsize), $(cli debug digest)" "$keys" "a server without the library reads what it saved"
cli shutdown nosave
wait "$pid"
pid=
