#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# python3: threads, subprocess, multiprocessing by fork, json, large dictionaries; also with every
# object of Python's own allocator passed to malloc.
. "${0%/*}/../lib/tap.sh"
python=/usr/bin/python3
need "$python" python3
plan 5

cat >"$TMP/test.py" <<'PYTHON'
import gc, hashlib, json, multiprocessing, re, subprocess, sys, threading, zlib

def digest(x):
    return hashlib.sha256(repr(x).encode()).hexdigest()[:16]

d = {i: {"name": "n%d" % i, "list": list(range(i % 20))} for i in range(60000)}
for i in range(0, 60000, 3):
    del d[i]
print("dict", len(d), digest(sorted(d.items())))
text = json.dumps({str(k): v for k, v in d.items()}, sort_keys=True)
print("json", len(text), json.loads(text)["1"], digest(text))
data = zlib.compress(text.encode())
print("zlib", zlib.decompress(data) == text.encode())
print("regex", len(re.findall(r'"n(\d+)"', text)))

results = [None] * 8
def worker(k):
    s = {}
    for i in range(15000):
        s[(i * 7919 + k) % 5003] = ("x" * (i % 300)) + str(k)
    results[k] = digest(sorted(s.items()))
threads = [threading.Thread(target=worker, args=(k,)) for k in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print("threads", results)

for _ in range(10):
    out = subprocess.run([sys.executable, "-c", "print(sum(range(1000)))"],
    	capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout == "499500\n", out
print("subprocess", out.stdout.strip())

def square(x):
    blob = ["%d" % (x * j) for j in range(500)]
    return x * x + len(blob)
if __name__ == "__main__":
    busy = threading.Event()
    def churn():
        while not busy.is_set():
            [bytearray(n) for n in (10, 1000, 100000)]
    t = threading.Thread(target=churn); t.start()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        print("multiprocessing", sum(pool.map(square, range(2000), chunksize=50)))
    busy.set(); t.join()
    d.clear(); gc.collect()
    big = bytearray(80 << 20); big[-1] = 7
    big.extend(b"y" * (20 << 20))
    print("bytearray", len(big), big[(80 << 20) - 1])
PYTHON

want=$("$python" "$TMP/test.py")
out=$(with_sluice "$python" "$TMP/test.py" 2>&1)
is "$?" 0 "python3 ends well"
is "$out" "$want" "python3 says the same as without the library"
proved_loaded "python3 was served by the library"

out=$(PYTHONMALLOC=malloc with_sluice "$python" "$TMP/test.py" 2>&1)
is "$?, $out" "0, $want" "python3 says the same with all of its objects in malloc"
proved_loaded "python3 with all of its objects was served by the library"
