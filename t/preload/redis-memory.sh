#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# What Debian's redis-server tells about its memory by jemalloc's names is what Sluice counts and
# what the kernel says: INFO memory, MEMORY STATS, MEMORY DOCTOR, MEMORY PURGE. Its active
# defragmentation needs a jemalloc that has been changed for it.
. "${0%/*}/../lib/tap.sh"
need redis-server
need redis-cli redis-tools
plan 18
tmpdir

sock=$TMP/sock
cli() {
	redis-cli -s "$sock" "$@"
}

# start COMMAND...: a server that listens on $sock alone; its process in $server, of the job $pid
start() {
	"$@" redis-server --port 0 --unixsocket "$sock" --dir "$TMP" --save '' --appendonly no \
		--daemonize no >>"$TMP/log" 2>&1 &
	pid=$!
	for _ in $(seq 600); do
		if [ "$(cli ping 2>/dev/null)" = PONG ]; then
			server=$(cli info server | sed -n 's/^process_id:\([0-9]*\).*/\1/p')
			return
		fi
		sleep 0.1
	done
	bail_out "$(tail -n 5 "$TMP/log")"
}
at_exit '[ -z "${pid-}" ] || kill "$pid" 2>/dev/null'

# field NAME: of INFO memory, as it was when $info was set
field() {
	printf '%s\n' "$info" | sed -n "s/^$1://p"
}

# layer NAME...: the sum of what Sluice counted when $layers was set
layer() {
	for name; do
		printf '%s\n' "$layers" | sed -n "s/^layer_$name //p"
	done | awk '{ n += $1 } END { print n + 0 }'
}

# Bytes of the process that are in memory and of no file.
anonymous() {
	awk '$1 == "Anonymous:" { print $2 * 1024 }' "/proc/$server/smaps_rollup"
}

# look CONDITION: until it holds, sets $info, $layers and $anon. redis asks each tenth of a second,
# so at first what it says may be of before.
look() {
	sleep 0.5
	for _ in $(seq 200); do
		layers=$("$builddir/tools/sluice-ctl" stats "$server" 2>&1)
		anon=$(anonymous)
		info=$(cli info memory | tr -d '\r')
		eval "[ $1 ]" && return 0
		sleep 0.2
	done
	diag "not seen: $1; $(printf '%s\n' "$layers" | head -n 1)"
}

# near HAVE WANT PERCENT LABEL: not farther from it than that, or 256 KiB
near() {
	awk -v have="$1" -v want="$2" -v most="$3" 'BEGIN {
		most = most / 100 * want
		most = most > 262144 ? most : 262144
		exit !(have >= want - most && have <= want + most) }'
	ok $? "$4"
	diag "$1, of $2"
}

# Nothing goes back to the kernel for its age.
SLUICE_CONF=control:1,decay_ms:3600000,psi:0,cgroup:0
export SLUICE_CONF
start with_sluice
unset SLUICE_CONF
proved_mapped "redis-server has the library mapped" "$server"
asked=$(cli config set activedefrag yes 2>&1)

awk 'BEGIN { for (i = 0; i < 200000; i++) printf "SET key:%d %0100d\r\n", i, i }' |
	cli --pipe >/dev/null 2>&1
# shellcheck disable=SC2016 # look expands it
look '"$(field allocator_allocated)" -ge "$(field used_memory)"'
used=$(field used_memory)
allocated=$(field allocator_allocated)
active=$(field allocator_active)
resident=$(field allocator_resident)
diag "used $used, allocated $allocated, active $active, resident $resident"
ok $((allocated < used || allocated > used + used / 5)) \
	"allocator_allocated is what redis says it uses, and at most a fifth more"
ok $((active < allocated || resident < active)) "allocated <= active <= resident"
near "$allocated" "$(layer live)" 2 "allocator_allocated is what Sluice says is live"
near "$active" "$(layer live cached pinned)" 2 "allocator_active is that, and the rest of its slabs"
near "$resident" "$(layer sum)" 2 "allocator_resident is the sum of Sluice's layers"
# The program's own data, stacks and the C library are besides.
ok $((anon < resident - 262144 || anon > resident + 4000000)) \
	"smaps has that in memory, and what is not the heap's"
diag "$anon"
stats=$(cli memory stats)
# told NAME: of MEMORY STATS
told() {
	printf '%s\n' "$stats" | grep -A 1 -x "$1" | tail -n 1
}
near "$(told allocator.allocated)" "$allocated" 2 "MEMORY STATS says the same of allocated bytes"
near "$(told allocator.resident)" "$resident" 2 "and of resident ones"
is "$(cli memory doctor | grep -c 'High allocator')" 0 \
	"MEMORY DOCTOR has nothing against the allocator"
like "$(cli memory malloc-stats)" 'Begin jemalloc statistics' \
	"MEMORY MALLOC-STATS prints statistics"

# Three of four values, in no order: hardly a page becomes free.
awk 'BEGIN { srand(1); for (i = 0; i < 200000; i++) if (rand() < 0.75) print "DEL key:" i "\r" }' |
	cli --pipe >/dev/null 2>&1
# shellcheck disable=SC2016 # look expands it
look '"$(field allocator_allocated)" -lt '"$((allocated / 2))"
near "$(field allocator_frag_bytes)" "$(layer pinned cached)" 5 \
	"allocator_frag_bytes is what Sluice says is free in slabs that are in use"
like "$(cli memory doctor)" 'High allocator fragmentation' "MEMORY DOCTOR says so"

# FLUSHALL would purge by itself.
seq -f 'DEL key:%.0f
' 0 199999 | cli --pipe >/dev/null 2>&1
# shellcheck disable=SC2016 # look expands it
look '"$(field allocator_allocated)" -lt 8000000'
before=$(field allocator_resident)
near "$before" "$(layer sum)" 2 "what was freed is resident"
anon_before=$anon
is "$(cli memory purge)" OK "MEMORY PURGE succeeds"
# shellcheck disable=SC2016 # look expands it
look '"$(field allocator_resident)" -lt '"$((before / 2))"
near "$((anon_before - anon))" "$((before - $(field allocator_resident)))" 5 \
	"what it took from allocator_resident went back to the kernel"
ok $((before - $(field allocator_resident) < before / 2)) "which is most of it"
cli shutdown nosave
wait "$pid"

start env
is "$asked" "$(cli config set activedefrag yes 2>&1)" \
	"active defragmentation is refused, as with Debian's jemalloc"
cli shutdown nosave
wait "$pid"
pid=
