#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# node: objects, Buffers, zlib and crypto on its thread pool, worker threads, child processes.
. "${0%/*}/../lib/tap.sh"
node=/usr/bin/node
[ -x "$node" ] || node=$(command -v node || echo node)
need "$node" nodejs
plan 3

cat >"$TMP/test.js" <<'JS'
const crypto = require('crypto'), zlib = require('zlib'), cp = require('child_process');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const digest = (x) => crypto.createHash('sha256').update(x).digest('hex').slice(0, 16);
function work(k) {
	const m = new Map();
	for (let i = 0; i < 30000; i++) {
		const text = Buffer.alloc(i % 2000, k).toString('hex').slice(0, 40);
		m.set((i * 7919 + k) % 5003, text);
	}
	return digest(JSON.stringify([...m].sort((a, b) => a[0] - b[0])));
}
if (!isMainThread) { parentPort.postMessage(work(workerData)); } else (async () => {
	console.log('main', work(99));
	const all = [];
	for (let i = 0; i < 400; i++) all.push(Buffer.alloc(10000 + i * 500, i));
	const big = Buffer.concat(all); all.length = 0;
	console.log('buffers', big.length, digest(big));
	const packed = await Promise.all([1, 2, 3, 4, 5, 6].map((l) => new Promise((ok, no) =>
		zlib.deflate(big.subarray(0, 4000000), { level: l },
			(e, b) => e ? no(e) : ok(b)))));
	console.log('zlib', packed.map((b) => zlib.inflateSync(b).length).join());
	const keys = await Promise.all([...Array(8).keys()].map((i) => new Promise((ok, no) =>
		crypto.scrypt('password', 'salt' + i, 32, { N: 4096 },
			(e, k) => e ? no(e) : ok(k.toString('hex'))))));
	console.log('scrypt', digest(keys.join()));
	const from = await Promise.all([0, 1, 2, 3].map((k) => new Promise((ok, no) => {
		const w = new Worker(__filename, { workerData: k });
		w.on('message', ok);
		w.on('error', no);
	})));
	console.log('workers', from.join());
	const sum = ['-e', 'console.log([1,2,3].map(x=>x*x).join())'];
	console.log('child', cp.execFileSync(process.execPath, sum).toString().trim());
	let s = ''; for (let i = 0; i < 200000; i++) s += String.fromCharCode(65 + i % 26);
	console.log('string', digest(s), s.replace(/[AEIOU]/g, '').length);
})();
JS

want=$("$node" "$TMP/test.js")
out=$(with_sluice "$node" "$TMP/test.js" 2>&1)
is "$?" 0 "node ends well"
is "$out" "$want" "node says the same as without the library"
proved_loaded "node was served by the library"
