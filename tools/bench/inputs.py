# SPDX-License-Identifier: BSD-2-Clause
"""The inputs of the real programs. They are generated, and the same each time."""

import random

PYTHON_JSON = """
import json
rows = [{"id": i, "name": "user %d" % i, "tags": ["t%d" % (i * k % 97) for k in range(8)],
         "score": i / 7, "nested": {"a": [i] * 5, "b": None, "c": "x" * (i % 60)}}
        for i in range(6000)]
total = 0
for _ in range(ROUNDS):
    text = json.dumps(rows)
    total += len(text) + len(json.loads(text))
assert total > 0
"""

PYTHON_DICT = """
words = {}
x = 12345
for i in range(200000 * ROUNDS):
    x = (x * 1103515245 + 12345) & 0x7fffffff
    key = "key%d" % (x % 50021)
    words[key] = words.get(key, "") + chr(97 + x % 26)
    if x % 11 == 0:
        words.pop("key%d" % (x % 49999), None)
assert words
"""

PYTHON_OBJECTS = """
class Node:
    def __init__(self, value, left, right):
        self.value, self.left, self.right = value, left, right
def build(depth, seed):
    if depth == 0:
        return Node([seed], None, None)
    return Node((seed, str(seed) * 3), build(depth - 1, seed * 2), build(depth - 1, seed * 2 + 1))
kept = [None] * 8
for i in range(4 * ROUNDS):
    kept[i % 8] = build(13, i + 1)
"""

PYTHON_THREADS = """
import threading, zlib, hashlib
def work(n):
    blocks = []
    for i in range(500 * ROUNDS):
        data = (b"%d abcdefgh" % (i * n)) * 3000
        packed = zlib.compress(data, 1)
        blocks.append((hashlib.sha256(packed).digest(), packed, bytearray(20000 + i % 7 * 9000)))
        if len(blocks) > 60:
            del blocks[::2]
threads = [threading.Thread(target=work, args=(n + 1,)) for n in range(THREADS)]
for t in threads:
    t.start()
for t in threads:
    t.join()
"""

LUA = """
local rounds = tonumber(arg[1])
local x, strings, objects = 12345, {}, {}
local function rnd(n) x = (x * 1103515245 + 12345) % 2147483648 return x % n end
local function tree(depth)
  if depth == 0 then return {value = rnd(1000)} end
  return {left = tree(depth - 1), right = tree(depth - 1), name = "n" .. rnd(100000)}
end
for i = 1, 150000 * rounds do
  local k = rnd(20011) + 1
  strings[k] = (strings[k] or "") .. string.char(97 + rnd(26))
  if #strings[k] > 100 then strings[k] = nil end
  if i % 5000 == 0 then objects[i / 5000 % 20 + 1] = tree(10) end
end
local parts = {}
for i = 1, 30000 * rounds do parts[i] = ("%d:%s"):format(i, ("y"):rep(i % 80)) end
assert(#table.concat(parts, ",") > 0)
"""

PERL = """
my ($rounds, $x, %h, @kept) = ($ARGV[0], 12345);
sub rnd { $x = ($x * 1103515245 + 12345) % 2147483648; return $x % $_[0] }
sub tree { my $d = shift; return { value => rnd(1000) } unless $d;
           return { left => tree($d - 1), right => tree($d - 1), name => "n" . rnd(100000) } }
for my $i (1 .. 120000 * $rounds) {
    my $k = "key" . rnd(20011);
    $h{$k} .= chr(97 + rnd(26));
    delete $h{"key" . rnd(20011)} if $i % 9 == 0;
    $kept[$i / 6000 % 12] = tree(10) if $i % 6000 == 0;
}
my @parts = map { "$_:" . ("y" x ($_ % 80)) } 1 .. 30000 * $rounds;
die unless length join(",", @parts);
"""


def sql(rows):
    return f"""
CREATE TABLE people(id INTEGER PRIMARY KEY, name TEXT, town TEXT, born INTEGER, note BLOB);
CREATE INDEX by_town ON people(town, born);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
  INSERT INTO people SELECT i, 'name ' || (i * 7919 % 100003), 'town ' || (i * 31 % 997),
    1900 + i % 120, zeroblob(i % 300) FROM n;
SELECT town, count(*), avg(born), group_concat(substr(name, 1, 8)) FROM people GROUP BY town;
SELECT count(*) FROM people a JOIN people b ON a.town = b.town AND a.born = b.born
  WHERE a.id % 50 = 0;
UPDATE people SET note = zeroblob(length(note) + 100), name = upper(name) WHERE id % 3 = 0;
CREATE TABLE copy AS SELECT * FROM people ORDER BY name, born DESC;
DELETE FROM people WHERE id % 2 = 0;
SELECT count(DISTINCT name), sum(length(note)) FROM copy;
"""


def c_source(functions):
    """A C file like the output of a code generator: structs, switches, loops, calls."""
    rng = random.Random(1)
    out = ["typedef unsigned long u64;", "static u64 pool[4096];"]
    for f in range(functions):
        fields = [f"f{i}" for i in range(rng.randrange(3, 9))]
        out.append(f"struct s{f} {{ " + " ".join(f"u64 {x};" for x in fields) + " };")
        out.append(f"u64 g{f}(struct s{f} *s, u64 n)\n{{\n\tu64 sum = n;")
        for i in range(rng.randrange(2, 6)):
            a, b = rng.choice(fields), rng.choice(fields)
            out.append(f"\tfor (u64 i = 0; i < n % {rng.randrange(3, 99)}; i++) {{")
            out.append(f"\t\ts->{a} += pool[(i * {rng.randrange(1, 999)} + s->{b}) & 4095];")
            out.append(f"\t\tif (s->{a} & {1 << rng.randrange(8)})\n"
                       f"\t\t\tsum ^= s->{b} << {i + 1};\n\t}}")
        out.append("\tswitch (sum & 15) {")
        for c in range(rng.randrange(4, 14)):
            callee = f"g{rng.randrange(f)}((void *)pool, sum)" if f else "sum"
            out.append(f"\tcase {c}:\n\t\tsum += {callee} * {rng.randrange(1, 9999)};\n\t\tbreak;")
        out.append(f"\tdefault:\n\t\tsum -= s->{rng.choice(fields)};\n\t}}\n\treturn sum;\n}}")
    return "\n".join(out) + "\n"


def text(size):
    """Words of a small vocabulary, about as compressible as ordinary text."""
    rng = random.Random(2)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 11))) for _ in range(5000)]
    weights = [1 / (i + 3) for i in range(len(words))]
    return (" ".join(rng.choices(words, weights, k=size // 5)) + "\n").encode()[:size]
