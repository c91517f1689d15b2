# SPDX-License-Identifier: BSD-2-Clause
"""Writes a profile as pprof reads it: the message Profile of its profile.proto, compressed.

The few kinds of fields that it has are encoded here, so that the command needs no compiler of
protobuf, and no copy of the schema."""

import gzip

VALUES = (("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
          ("inuse_space", "bytes"), ("idle_space", "bytes"), ("pinned_space", "bytes"))


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def number(field, n):
    return varint(field << 3) + varint(n) if n else b""


def block(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def packed(field, numbers):
    return block(field, b"".join(map(varint, numbers)))


class Ids:
    """Numbers from a first one on, in the order in which things are seen."""

    def __init__(self, first):
        self.first = first
        self.of = {}

    def __call__(self, thing):
        return self.of.setdefault(thing, len(self.of) + self.first)


class Message:
    def __init__(self, profile, symbols):
        self.profile = profile
        self.symbols = symbols
        self.strings = Ids(0)
        self.strings("")
        self.functions = Ids(1)
        self.locations = Ids(1)
        self.mapping_ids = {id(m): i + 1 for i, m in enumerate(symbols.mappings)}

    def value_type(self, kind, unit):
        return number(1, self.strings(kind)) + number(2, self.strings(unit))

    def sample(self, site):
        values = []
        for counts in (site.ever, site.live):
            values += [round(n) for n in self.profile.scaled(counts)]
        values += [round(self.profile.scaled(site.idle)[1]), site.pinned]
        return packed(1, map(self.locations, site.stack)) + packed(2, values)

    def location(self, pc, its_id):
        mapping = self.symbols.mapping(pc - 1)
        data = number(1, its_id) + number(3, pc - 1)
        if mapping:
            data += number(2, self.mapping_ids[id(mapping)])
        for line in self.symbols.of(pc):
            function = self.functions((line.function, line.file))
            data += block(4, number(1, function) + number(2, line.line))
        return data

    def mapping(self, m):
        return (number(1, self.mapping_ids[id(m)]) + number(2, m.start) + number(3, m.end) +
                number(4, m.offset) + number(5, self.strings(m.path)) + number(7, 1))

    def function(self, name, file, its_id):
        return (number(1, its_id) + number(2, self.strings(name)) + number(3, self.strings(name)) +
                number(4, self.strings(file)))

    def encoded(self):
        out = [block(1, self.value_type(*value)) for value in VALUES]
        out += [block(2, self.sample(site)) for site in self.profile.sites]
        out += [block(3, self.mapping(m)) for m in self.symbols.mappings]
        out += [block(4, self.location(pc, i)) for pc, i in self.locations.of.items()]
        out += [block(5, self.function(*f, i)) for f, i in self.functions.of.items()]
        out.append(block(11, self.value_type("space", "bytes")))
        out.append(number(12, self.profile.mean))
        out.append(number(14, self.strings("inuse_space")))
        out += [block(6, text.encode()) for text in self.strings.of]
        return b"".join(out)


def written(profile, symbols):
    return gzip.compress(Message(profile, symbols).encoded(), mtime=0)
