#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Programs that are made for jemalloc find its names: Debian's BIND, a client by ctypes, and
# MALLOC_CONF. jemalloc itself may be mapped beside; nothing must come from it. redis-memory.sh has
# Debian's redis-server.
. "${0%/*}/../lib/tap.sh"
plan 23

py=/usr/bin/python3
cat >"$TMP/client.py" <<'END'
import ctypes, json, sys
lib = ctypes.CDLL(None)
size = ctypes.c_size_t
lib.mallocx.restype = lib.rallocx.restype = ctypes.c_void_p
lib.mallocx.argtypes = [size, ctypes.c_int]
lib.rallocx.argtypes = [ctypes.c_void_p, size, ctypes.c_int]
lib.sallocx.restype = lib.nallocx.restype = size
lib.sallocx.argtypes = lib.dallocx.argtypes = [ctypes.c_void_p, ctypes.c_int]
lib.nallocx.argtypes = [size, ctypes.c_int]
lib.free.argtypes = [ctypes.c_void_p]

def read(name, kind=size):
    value, length = kind(), size(ctypes.sizeof(kind))
    err = lib.mallctl(name.encode(), ctypes.byref(value), ctypes.byref(length), None, 0)
    return value.value if err == 0 else "errno %d" % err

def refresh():
    epoch = ctypes.c_uint64(1)
    lib.mallctl(b"epoch", None, None, ctypes.byref(epoch), 8)

refresh()
before = read("stats.allocated")
blocks = [lib.mallocx(1000000, 0x40) for _ in range(50)]
refresh()
print("live", 50000000 <= read("stats.allocated") - before < 60000000)
blocks[0] = lib.rallocx(blocks[0], 3000000, 12)
print("aligned", blocks[0] % 4096 == 0, lib.sallocx(blocks[0], 0) == lib.nallocx(3000000, 12))
for i, block in enumerate(blocks):
    lib.free(block) if i % 2 else lib.dallocx(block, 0)
refresh()
print("freed", abs(read("stats.allocated") - before) < 1000000)

parts = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
def write(arg, text):
    parts.append(text.decode())
lib.malloc_stats_print(write, None, b"J")
stats = json.loads("".join(parts))["jemalloc"]
bins = stats["stats.arenas"]["merged"]["bins"]
print("json", len(bins) == stats["arenas"]["nbins"] == len(stats["arenas"]["bin"]),
      sum(b["curregs"] * a["size"] for a, b in zip(stats["arenas"]["bin"], bins)) ==
      stats["stats.arenas"]["merged"]["small"]["allocated"])
print("version", stats["version"][:2])

def counted():
    return [read("thread." + name, ctypes.c_uint64) for name in ("allocated", "deallocated")]

was = counted()
lib.free(lib.mallocx(1000000, 0))
print("counted", [1000000 <= a - b < 1200000 for a, b in zip(counted(), was)])
print("decay", read("opt.dirty_decay_ms", ctypes.c_ssize_t))
END

if [ -x "$py" ]; then
	out=$(with_sluice MALLOC_CONF=dirty_decay_ms:2500 "$py" "$TMP/client.py" 2>"$TMP/err")
	is "$out" "live True
aligned True True
freed True
json True True
version 5.
counted [True, True]
decay 2500" "a client by ctypes finds mallctl, the x-functions and the JSON true"
	is "$(cat "$TMP/err")" "" "MALLOC_CONF is read without a word"
else
	skip "a client by ctypes finds mallctl, the x-functions and the JSON true" "no python3"
	skip "MALLOC_CONF is read without a word" "no python3"
fi
like "$(with_sluice MALLOC_CONF=dirty_decay_ms:500,narenas:4,confirm_conf:true true 2>&1)" \
	'^sluice: MALLOC_CONF: taken: dirty_decay_ms; without a counterpart here: narenas$' \
	"confirm_conf says what was taken"
conf() {
	with_sluice MALLOC_CONF="$1,confirm_conf:true" true 2>&1
}
is "$(conf dirty_decay_ms:1,dirty_decay_ms:5,xyz:1,xyz:2,xy:1)" "$(printf '%s; %s' \
	'sluice: MALLOC_CONF: taken: dirty_decay_ms; without a counterpart here: xyz, xy' \
	'dirty_decay_ms counts as 10: decay_ms takes 10 to 3600000')" \
	"each is named once; a time that is too short counts as the shortest, which is said"
like "$(conf dirty_decay_ms:99999999999999999999)" 'counts as 3600000: [^:]*$' \
	"one that is too long counts as the longest"
is "$(with_sluice MALLOC_CONF=dirty_decay_ms:0 true 2>&1
	with_sluice MALLOC_CONF=dirty_decay_ms:7200000 true 2>&1)" "" "neither is a bad value"
is "$(conf background_thread:maybe)" "$(printf 'sluice: MALLOC_CONF: %s\n' \
	"background_thread: 'maybe' is not valid, use true or false" \
	"taken: nothing; without a counterpart here: nothing; refused: background_thread")" \
	"a value that is refused does not count as one without a counterpart"
like "$(conf thp:yes,dirty_decay_ms:abc,narenas:4 | tail -n 1)" \
	'taken: nothing; without a counterpart here: narenas; refused: thp, dirty_decay_ms$' \
	"neither do others"
is "$(with_sluice MALLOC_CONF=junk,,narenas:4 true 2>&1)" \
	"sluice: MALLOC_CONF: 'junk' is not of the form NAME:VALUE" "a word alone gets one line"
long=$(printf '%0600d' 0)
like "$(with_sluice MALLOC_CONF="$long" true 2>&1)" \
	"^sluice: MALLOC_CONF: '0{64}[.]{3}' is not of the form NAME:VALUE\$" \
	"a word that is too long is cut, not what is said of it"
like "$(with_sluice MALLOC_CONF=dirty_decay_ms:soon true 2>&1)" \
	"^sluice: MALLOC_CONF: option decay_ms: 'soon' is not valid" "a bad value gets one line"
for bad in lg_prof_sample:64 lg_prof_sample:33 lg_prof_sample:1K lg_prof_interval:51 \
	lg_prof_interval:99999999999999999999 lg_prof_interval:-2; do
	most=50
	[ "${bad%:*}" = lg_prof_interval ] || most=32
	is "$(with_sluice MALLOC_CONF=$bad true 2>&1)" \
		"sluice: MALLOC_CONF: ${bad%:*}: '${bad#*:}' is not valid, use 0 to $most" \
		"$bad gets one line, which names it"
done
is "$(with_sluice MALLOC_CONF=prof:true,lg_prof_sample:32,lg_prof_interval:50 true 2>&1
	with_sluice MALLOC_CONF=lg_prof_sample:0,lg_prof_interval:-1 true 2>&1)" "" \
	"the least and the most are taken"
is "$(with_sluice "MALLOC_CONF=prof_prefix:$(printf '%0256d' 0)" true 2>&1)" \
	"sluice: MALLOC_CONF: prof_prefix: the value is longer than 255 characters" \
	"a value that is too long gets one line"
like "$(with_sluice MALLOC_CONF=stats_print:true true 2>&1)" \
	'^___ Begin jemalloc statistics ___' "stats_print prints at the end"
is "$(SLUICE_CONF=stats_print:off with_sluice MALLOC_CONF=stats_print:true true 2>&1)" "" \
	"what SLUICE_CONF sets has precedence"

# ---- BIND -------------------------------------------------------------------------------------

if command -v named-checkzone >/dev/null 2>&1; then
	{
		printf '$TTL 3600\n@ SOA ns. admin. 1 3600 600 86400 3600\n'
		printf '@ NS ns\nns A 192.0.2.1\n'
		for i in $(seq 3000); do echo "h$i A 192.0.2.$((i % 250))"; done
	} >"$TMP/zone"
	out=$(with_sluice LD_DEBUG=bindings LD_DEBUG_OUTPUT="$TMP/bind" \
		named-checkzone example.org "$TMP/zone" 2>&1)
	is "$?, $(echo "$out" | tail -n 1)" "0, OK" "BIND checks a zone"
	like "$(cat "$TMP"/bind.* | grep 'symbol .mallocx')" 'libisc.*to .*libsluice' \
		"and its mallocx is the library's"
else
	skip "BIND checks a zone" "bind9-utils is not installed"
	skip "and its mallocx is the library's" "bind9-utils is not installed"
fi
