#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# lua: its allocator is one function on realloc, for everything from 16 bytes to megabytes.
. "${0%/*}/../lib/tap.sh"
lua=$(command -v lua || command -v lua5.4 || command -v lua5.3 || echo lua5.4)
need "$lua" lua5.4
plan 3

cat >"$TMP/test.lua" <<'LUA'
local t, x = {}, 12345
for i = 1, 300000 do
	x = (x * 1103515245 + 12345) % 2147483648
	local k = x % 20011
	t[k] = (t[k] or "") .. string.char(97 + x % 26)
	if i % 9 == 0 then t[(k * 31) % 20011] = nil end
end
local keys, sum = {}, 0
for k in pairs(t) do keys[#keys + 1] = k end
table.sort(keys)
for _, k in ipairs(keys) do
	for c in t[k]:gmatch(".") do sum = (sum * 31 + c:byte() + k) % 1000000007 end
end
print(#keys, sum)
local parts = {}
for i = 1, 60000 do parts[i] = ("%d:%s"):format(i, ("y"):rep(i % 80)) end
local s = table.concat(parts, ",")
print(#s, select(2, s:gsub("yyy", "z")))
parts, t = nil, nil
collectgarbage()
local co = {}
for i = 1, 5000 do
	co[i] = coroutine.wrap(function(a) while true do a = coroutine.yield(a * 2) end end)
end
local n = 0
for r = 1, 5 do for i = 1, 5000 do n = n + co[i](i + r) end end
print(n)
local big = ("0123456789"):rep(3000000)
print(#big, big:sub(-5))
LUA

want=$("$lua" "$TMP/test.lua")
out=$(with_sluice "$lua" "$TMP/test.lua" 2>&1)
is "$?" 0 "lua ends well"
is "$out" "$want" "lua says the same as without the library"
proved_loaded "lua was served by the library"
