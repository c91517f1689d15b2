#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# nginx with two workers under load, reloaded in the middle of it.
. "${0%/*}/../lib/tap.sh"
need nginx
need ab apache2-utils
need curl
plan 8

mkdir "$TMP/www" "$TMP/tmp"
chmod 755 "$TMP/www"
chmod 777 "$TMP/tmp"
seq 1 30000 >"$TMP/www/large.txt"
echo "small $$" >"$TMP/www/small.txt"

# configure PORT
configure() {
	cat >"$TMP/nginx.conf" <<EOC
daemon off;
worker_processes 2;
pid $TMP/nginx.pid;
error_log $TMP/error.log;
events { worker_connections 256; }
http {
	access_log $TMP/access.log;
	client_body_temp_path $TMP/tmp/body; proxy_temp_path $TMP/tmp/proxy;
	fastcgi_temp_path $TMP/tmp/fastcgi;
	uwsgi_temp_path $TMP/tmp/uwsgi; scgi_temp_path $TMP/tmp/scgi;
	gzip on; gzip_types text/plain; default_type text/plain;
	server { listen 127.0.0.1:$1; root $TMP/www;
		location /proxy/ { proxy_pass http://127.0.0.1:$1/; } }
}
EOC
}

# start PORT: false if another program answers there.
start() {
	configure "$1"
	url=http://127.0.0.1:$1
	: >"$TMP/error.log"
	with_sluice nginx -p "$TMP" -c "$TMP/nginx.conf" 2>"$TMP/err" &
	pid=$!
	for _ in $(seq 600); do
		kill -0 "$pid" 2>/dev/null || return 1
		curl -s -o "$TMP/out" "$url/small.txt" && [ "$(cat "$TMP/out")" = "small $$" ] &&
			return
		sleep 0.1
	done
	return 1
}

at_exit '[ -z "${pid-}" ] || kill "$pid" 2>/dev/null'
# Below the ports that the kernel gives to clients.
for port in 1 2 3 4 5; do
	start $((10000 + ($$ + 4001 * port) % 20000)) && break
done
is "$(cat "$TMP/out")" "small $$" "nginx answers"
proved_mapped "nginx has the library mapped" "$(cat "$TMP/nginx.pid")"

want=$(sha256sum <"$TMP/www/large.txt")
is "$(curl -s "$url/large.txt" | sha256sum)" "$want" "a large file arrives whole"
is "$(curl -s --compressed "$url/proxy/large.txt" | sha256sum)" "$want" \
	"a large file arrives whole through gzip and a proxy"

# load PATH [OPTIONS OF AB]
load() {
	path=$1
	shift
	ab -q -n 3000 -c 20 "$@" -H 'Accept-Encoding: gzip' "$url/$path" 2>&1 |
		sed -n 's/^\(Complete\|Failed\) requests: *//p' | tr '\n' ' '
}
is "$(load small.txt -k)$(load proxy/large.txt -k)" "3000 0 3000 0 " \
	"6,000 requests are answered without a failure"
# A connection for each request, because old workers close kept-alive ones when they please.
load large.txt >"$TMP/load" &
load=$!
kill -HUP "$(cat "$TMP/nginx.pid")"
wait $load
is "$(cat "$TMP/load")" "3000 0 " "3,000 requests are answered without a failure during a reload"
kill -QUIT "$(cat "$TMP/nginx.pid")"
wait "$pid"
is "$?, $(grep -c -E '\[(alert|emerg|crit)\]' "$TMP/error.log")" "0, 0" \
	"nginx ends well, no worker died"
diag "$(grep -E '\[(alert|emerg|crit)\]' "$TMP/error.log" | head -n 5)"
pid=
proved_loaded "nginx was served by the library" nginx
