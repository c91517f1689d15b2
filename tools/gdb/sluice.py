# SPDX-License-Identifier: BSD-2-Clause
"""
Commands of gdb for programs that run under Sluice: `help sluice` lists them.

gdb loads this file by itself for an installed library (doc/gdb.md); by hand: `source sluice.py`.
The commands work on a process that is stopped and on a core. They read memory and call nothing, so
they may be used wherever the program stopped, also inside malloc. What a thread was changing at
that moment may look inconsistent: a walk then says so and goes on.

Fields are found by the library's debug information. Encodings that it does not describe are written
down below, each with the file that has them.
"""
import bisect
import collections
import re
import struct

import gdb

REGION_SHIFT = 26                 # types.h
REGION_MASK = ~((1 << REGION_SHIFT) - 1)
HOLE_SHIFT = 12                   # holes.h
STATE_OWNED, STATE_ABANDONED, STATE_POSTED = 1, 2, 4  # slab.h
LOW_48 = (1 << 48) - 1            # longrun.c, quarantine_types.h
KEPT_UNIT, KEPT_ADDRESS, KEPT_OLD = 12, 36, 1 << 63   # mapcache.c
HUGE_FLAGS, HUGE_CLAIMED = 3, 2    # huge.c: in a slot's bytes, and instead of an address
ARENA_SCALE_SLOTS, ARENA_BLOCK_BITS, ARENA_GRANULE_BITS = 16, 14, 4  # arena.c
ARENA_BLOCKS = 60
CLAIM_STATES = ("free", "pending", "held")            # heap_types.h
GUARDED_STATES = ("never used", "changing", "live", "freed")  # guarded.c
WORD = (1 << 64) - 1
FIND_MOST = 100

BACKINGS = ("dirty", "clean", "prefaulted")
MISSING = (
    "{0} has no debug information, which these commands need: install libsluice0-dbgsym, or use a "
    "library that was built with -g (configure's default) and not stripped"
)

Region = collections.namedtuple("Region", "start at zone pages heads pagebytes")
Run = collections.namedtuple("Run", "pg at npages kind region")


def size_text(n):
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n >= 1 << shift:
            return "%.1f %s" % (n / (1 << shift), unit)
    return "%d bytes" % n


def read(at, n):
    return gdb.selected_inferior().read_memory(at, n).tobytes()


def read_word(at):
    return int.from_bytes(read(at, 8), "little")


class Fields:
    """Where the fields of a struct are: offset and length by name, nested ones as `outer.inner`."""

    def __init__(self, ctype):
        self.bytes = ctype.sizeof
        self.type = {}
        self.place = {}
        self._add(ctype, 0, "")

    def _add(self, ctype, base, prefix):
        for f in ctype.fields():
            inner = f.type.strip_typedefs()
            at = base + f.bitpos // 8
            if f.name:
                self.place[prefix + f.name] = (at, inner.sizeof)
                self.type[prefix + f.name] = inner
            if inner.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION):
                self._add(inner, at, prefix + f.name + "." if f.name else prefix)

    def at(self, name):
        return self.place[name][0]

    def get(self, data, name, base=0):
        at, n = self.place[name]
        return int.from_bytes(data[base + at:base + at + n], "little")

    def count(self, name):
        low, high = self.type[name].range()
        return high - low + 1


class Library:
    """The symbols and types of the library that the program uses."""

    def __init__(self):
        self.objfile = self._find()
        self.block = self._lookup("zone_all").symtab.global_block()
        self.page, self.region, self.zone, self.heap = (
            self.fields("struct " + n) for n in ("page", "region", "zone", "heap"))
        self.outbox, self.outbox_entry = self.fields("struct outbox"), self.fields(
            "struct outbox_entry")
        self.kinds = self.enum("enum page_kind", "PAGE_")
        self.lists = self.enum("enum page_list", "LIST_")
        self.sampled = next(n for n, name in self.lists.items() if name == "sampled")
        self.region_pages = self.region.count("head")
        self.pg_shift = REGION_SHIFT - (self.region_pages.bit_length() - 1)
        self.classes = self._classes()
        self.run_pages = self.array("run_class_pages")
        self.bin_in_rows = int(self.value("BIN_IN_ROWS", "heap.c"))
        key = self.value("link_key")
        self.addend, self.inverse = int(key["addend"]), int(key["inverse"])

    @staticmethod
    def _find():
        stripped = None
        for objfile in gdb.objfiles():
            if not objfile.is_valid() or not objfile.filename:
                continue
            named = re.search(r"libsluice[^/]*\.so", objfile.filename)
            if objfile.lookup_global_symbol("zone_all") and objfile.lookup_global_symbol(
                    "heap_fallback"):
                return objfile
            if named:
                stripped = objfile.filename
        if stripped:
            raise gdb.GdbError(MISSING.format(stripped))
        raise gdb.GdbError("this program does not use Sluice, or does not run yet")

    def _lookup(self, name, source=None):
        symbol = self.objfile.lookup_global_symbol(name)
        if source:
            for s in gdb.lookup_static_symbols(name):
                # Debug information in a file of its own is another objfile.
                if self.objfile in (s.symtab.objfile, s.symtab.objfile.owner) and (
                        s.symtab.filename.endswith(source)):
                    symbol = s
        if symbol is None:
            raise gdb.GdbError("%s: no symbol '%s' in %s" % (
                "these commands are of another version", name, self.objfile.filename))
        return symbol

    def value(self, name, source=None):
        return self._lookup(name, source).value()

    def address(self, name, source=None):
        return int(self.value(name, source).address)

    def fields(self, name):
        return Fields(gdb.lookup_type(name, self.block))

    def enum(self, name, prefix):
        ctype = gdb.lookup_type(name, self.block)
        return {int(f.enumval): f.name[len(prefix):].lower() for f in ctype.fields()}

    def array(self, name):
        value = self.value(name)
        low, high = value.type.strip_typedefs().range()
        return [int(value[i]) for i in range(low, high + 1)]

    def _classes(self):
        value = self.value("size_classes")
        low, high = value.type.strip_typedefs().range()
        return [(int(value[i]["size"]), int(value[i]["pages"]), int(value[i]["objects"]))
                for i in range(low, high + 1)]


class Broken(Exception):
    pass


class View:
    """What the program's memory holds now; made for each command, because the program runs on."""

    def __init__(self):
        self.lib = Library()
        self.notes = []
        self._regions = None
        self._cached = None
        self._slabs = {}

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)

    # ---- zones, regions, runs

    def zones(self):
        at = self.lib.address("zone_all")
        used = int(self.lib.value("zones_used"))
        for i in range(max(used, 1)):
            yield i, at + i * self.lib.zone.bytes

    def regions(self):
        if self._regions is None:
            self._regions = {}
            for i, zone in self.zones():
                at = read_word(zone + self.lib.zone.at("regions"))
                while at and at & REGION_MASK not in self._regions:
                    self._regions[at & REGION_MASK] = self._region(at, i)
                    at = read_word(at + self.lib.region.at("next"))
        return self._regions

    def _region(self, at, zone):
        f = self.lib.region
        pages = int.from_bytes(read(at + f.at("pages"), 4), "little")
        heads = read(at + f.at("head"), 4 * pages) if pages else b""
        pagebytes = read(at + f.at("page"), self.lib.page.bytes * pages) if pages else b""
        return Region(at & REGION_MASK, at, zone, pages, heads, pagebytes)

    def page_get(self, region, i, name):
        return self.lib.page.get(region.pagebytes, name, i * self.lib.page.bytes)

    def run_at(self, region, i):
        """The run or block whose first page is page i; None if none begins there."""
        kind = self.lib.kinds.get(self.page_get(region, i, "kind"), "?")
        if kind == "none":
            return None
        if kind == "slab":
            n = self.lib.classes[self.page_get(region, i, "cls")][1]
        else:
            n = self.page_get(region, i, "npages")
        pg = region.at + self.lib.region.at("page") + i * self.lib.page.bytes
        return Run(pg, region.start + (i << self.lib.pg_shift), n, kind, region)

    def index_of(self, run):
        return (run.at - run.region.start) >> self.lib.pg_shift

    def get(self, run, name):
        return self.page_get(run.region, self.index_of(run), name)

    def second(self, run, name):
        """A field of the descriptor of a slab's second page."""
        return self.page_get(run.region, self.index_of(run) + 1, name)

    def carved(self, run):
        """Bytes of a slab that were handed out once."""
        at = run.region.at + self.lib.region.at("carved") + 4 * self.index_of(run)
        return int.from_bytes(read(at, 4), "little")

    def runs(self):
        for region in self.regions().values():
            i = 0
            while i < region.pages:
                run = self.run_at(region, i)
                if run:
                    yield run
                i += max(run.npages, 1) if run else 1

    def region_of(self, addr):
        return self.regions().get(addr & REGION_MASK)

    def run_of(self, region, addr):
        i = (addr - region.start) >> self.lib.pg_shift
        for first in range(min(i, region.pages - 1), -1, -1):
            run = self.run_at(region, first)
            if run:
                return run if first + run.npages > i else None
        return None

    def descriptor_run(self, pg):
        """The run of a descriptor's address."""
        region = self.region_of(pg)
        if region is None:
            raise Broken("0x%x is no descriptor" % pg)
        i, rest = divmod(pg - region.at - self.lib.region.at("page"), self.lib.page.bytes)
        if rest or not 0 <= i < region.pages:
            raise Broken("0x%x is no descriptor" % pg)
        run = self.run_at(region, i)
        if run is None:
            raise Broken("0x%x is the descriptor of no run" % pg)
        return run

    def listed(self, first, what):
        """The runs of a doubly linked list."""
        before, pg, seen = 0, first, set()
        while pg:
            try:
                run = self.descriptor_run(pg)
            except Broken as e:
                self.note("%s: %s" % (what, e))
                return
            if pg in seen or self.get(run, "prev") != before:
                self.note("%s: the list is broken, or was being changed, at 0x%x" % (what, pg))
                return
            seen.add(pg)
            yield run
            before, pg = pg, self.get(run, "next")

    # ---- heaps and what they cache

    def heaps(self):
        """(address, contents) of each heap, the fallback heap first."""
        h = int(self.lib.value("heap_fallback")["heap"])
        seen = set()
        while h and h not in seen:
            seen.add(h)
            data = read(h, self.lib.heap.bytes)
            yield h, data
            h = self.lib.heap.get(data, "next")

    def heap_name(self, h, data):
        if h == int(self.lib.value("heap_fallback")["heap"]):
            return "the fallback heap"
        tid = self.lib.heap.get(data, "tid")
        return "thread %d" % tid if tid else "no thread (heap 0x%x)" % h

    def bins(self, h, data):
        """(bin, objects, places) of each cache bin that has places or objects."""
        f = self.lib.heap
        slots = h + f.bytes
        rows, in_rows = f.get(data, "rows"), self.lib.bin_in_rows
        sampling = bool(self.lib.value("heap_sampling"))
        returned = self.lib.fields("struct sampling") if sampling else None
        hardened = bool(self.lib.value("heap_slow_only"))
        base, each = f.at("bin"), f.place["bin"][1] // f.count("bin")
        for b in range(f.count("bin")):
            top, limit = struct.unpack_from("<QI", data, base + b * each)
            at = struct.unpack_from("<H", data, f.at("bin_bottom") + 2 * b)[0]
            bottom = rows + 8 * (at - in_rows) if at & in_rows else slots + 8 * at
            n = (top - bottom) // 8
            places = ((limit - bottom) & 0xffffffff) // 8
            if hardened:
                n += data[f.at("hidden") + b]
            if not 0 <= n <= 4096:
                continue
            objects = struct.unpack("<%dQ" % n, read(bottom + 8, 8 * n)) if n else ()
            if sampling and b < len(self.lib.classes):
                objects += self._returned(slots, returned, b)
            if places or objects:
                yield b, [o for o in objects if o], places

    def _returned(self, slots, f, cls):
        each = f.place["places"][1] // len(self.lib.classes)
        places = slots + f.at("places") + cls * each
        n = (read_word(slots + f.at("returned") + 16 * cls) - places) // 8
        return struct.unpack("<%dQ" % n, read(places + 8, 8 * n)) if 0 < n < each // 8 else ()

    def sampled(self, at):
        """(bytes, TID of the thread that allocated it) of the heap profile's sample; or None."""
        f = self.lib.fields("struct sample")
        table = int(self.lib.value("samples", "sites.c"))
        places = int(self.lib.value("SAMPLES", "sites.c"))
        data = read(table, f.bytes * places) if table else b""
        i = data.find(at.to_bytes(8, "little"))
        while i >= 0 and i % f.bytes != f.at("address"):
            i = data.find(at.to_bytes(8, "little"), i + 1)
        i -= f.at("address")
        return (f.get(data, "bytes", i), f.get(data, "tid", i)) if i >= 0 else None

    def outbox_entries(self, h):
        """(slab's run, objects) of each entry."""
        at = h + self.lib.heap.at("outbox") + self.lib.outbox.at("entry")
        f = self.lib.outbox_entry
        data = read(at, self.lib.outbox.place["entry"][1])
        for base in range(0, len(data), f.bytes):
            pg = f.get(data, "pg", base)
            if not pg:
                continue
            try:
                run = self.descriptor_run(pg)
                yield run, self.chain(run, f.get(data, "first", base), f.get(data, "count", base))
            except Broken as e:
                self.note("outbox of heap 0x%x: %s" % (h, e))

    def quarantine(self, data):
        q = self.lib.heap.get(data, "quarantine")
        if not q:
            return []
        f = self.lib.fields("struct quarantine")
        ring = read(q, f.bytes)
        first, count, mask = (f.get(ring, name) for name in ("first", "count", "mask"))
        blocks = struct.unpack("<%dQ" % (mask + 1), read(q + f.at("block"), 8 * (mask + 1)))
        return [blocks[(first + i) & mask] & LOW_48 for i in range(count)]

    def cached(self):
        """Where each object is that is in a cache of a heap."""
        if self._cached is None:
            self._cached = {}
            for h, data in self.heaps():
                who = self.heap_name(h, data)
                for b, objects, _ in self.bins(h, data):
                    for o in objects:
                        self._cached[o] = ("bin", "in the cache bin of " + who)
                for _, objects in self.outbox_entries(h):
                    for o in objects:
                        self._cached[o] = ("outbox", "in the outbox of " + who)
                for o in self.quarantine(data):
                    self._cached[o] = ("quarantine", "in the quarantine of " + who)
        return self._cached

    # ---- slabs

    def decode(self, at, link):
        """links.h: the object that the free object at `at` links to."""
        plain = ((link - self.lib.addend) * self.lib.inverse) & WORD
        return (plain - (at << 16)) & WORD

    def chain(self, run, first, count):
        """Objects from `first` on, `count` of them; count None: until the end of the list."""
        carved = self.carved(run)
        data = read(run.at, carved) if carved else b""
        out, o = [], first
        most = self.lib.classes[self.get(run, "cls")][2]
        while o and (count is None or len(out) < count):
            if not 0 <= o - run.at <= carved - 8 or len(out) > most:
                self.note("slab at 0x%x: a link of a free object is broken, or was being changed, "
                          "after 0x%x" % (run.at, out[-1] if out else 0))
                break
            out.append(o)
            o = self.decode(o, struct.unpack_from("<Q", data, o - run.at)[0])
        return out

    def slab(self, run):
        """What is known of a slab, by name."""
        if run.pg in self._slabs:
            return self._slabs[run.pg]
        get = lambda name: self.get(run, name)
        state = get("state")
        # STATE_COUNT_SHIFT, STATE_FIRST_SHIFT and STATE_PLACES of slab.h
        remote = state >> 48
        first = run.at + (state >> 4 & 0x3FFF) * 16 if remote else 0
        holes = lambda name: self.second(run, "holes." + name)
        held = lambda name: self.second(run, "held." + name)
        units = holes("units") if get("in_holes") else 0
        s = {
            "cls": get("cls"), "used": held("used"), "carved": held("carved"),
            "in_holes": get("in_holes"), "owner": get("owner"), "state": state,
            "list": self.lib.lists.get(get("list"), "?"), "units": units,
            "open": (holes("open"), holes("open_end")) if get("in_holes") else (0, 0),
            "free": self.chain(run, held("free"), None),
            "remote": self.chain(run, first, remote),
        }
        s["size"], _, s["objects"] = self.lib.classes[s["cls"]]
        s["free_set"], s["remote_set"] = set(s["free"]), set(s["remote"])
        self._slabs[run.pg] = s
        return s

    def object_state(self, run, i):
        """(letter, text) of object i of a slab."""
        s = self.slab(run)
        at = run.at + i * s["size"]
        if i >= s["carved"]:
            return " ", "never allocated"
        if at in s["free_set"]:
            return ".", "free, on the list of its slab"
        if at in s["remote_set"]:
            return "r", "freed by another thread, on the remote list of its slab"
        where = self.cached().get(at)
        if where:
            return where[0][0], "free, " + where[1]
        first, last = ((i * s["size"]) >> HOLE_SHIFT,
                       ((i + 1) * s["size"] - 1) >> HOLE_SHIFT)
        if s["units"] >> first & ((1 << (last - first + 1)) - 1) or (
                s["open"][0] <= i < s["open"][1]):
            return "_", "free, in a hole (its memory was given back)"
        return "#", "live"

    def owner_text(self, s):
        if s["state"] & 3 == STATE_ABANDONED:
            return "abandoned, in the pool of its class"
        for h, data in self.heaps():
            if h == s["owner"]:
                return "owned by " + self.heap_name(h, data)
        return "in limbo (between owners)"

    # ---- outside of regions

    def huge(self):
        """(start, bytes) of each huge object."""
        data, at = self._huge_table()
        for i in range(0, len(data), 16):
            addr, n = struct.unpack_from("<QQ", data, i)
            if addr > HUGE_CLAIMED:
                yield addr, n & ~HUGE_FLAGS

    def _huge_table(self):
        used = int(self.lib.value("used", "heap/huge.c"))
        table = self.lib.value("slots", "heap/huge.c")
        return (read(int(table.address), table.type.sizeof) if used else b""), table

    def kept(self):
        """(start, bytes) of each mapping that is kept for the next huge object."""
        table = self.lib.value("slots", "page/mapcache.c")
        data = read(int(table.address), table.type.sizeof)
        for (word,) in struct.iter_unpack("<Q", data):
            units = (word & ~KEPT_OLD) >> KEPT_ADDRESS
            if units:
                yield (word & ((1 << KEPT_ADDRESS) - 1)) << KEPT_UNIT, units << KEPT_UNIT

    def long_runs(self):
        """Descriptors of the long runs that are kept."""
        lines = self.lib.value("lines", "page/longrun.c")
        low, high = lines.type.strip_typedefs().range()
        for i in range(low, high + 1):
            slot = lines[i]["slot"]
            for j in range(slot.type.strip_typedefs().range()[1] + 1):
                pg = int(slot[j]) & LOW_48 & ~1
                if pg:
                    yield pg

    def chunks(self):
        """(slot, start, bytes) of each mapping of the arena."""
        table = self.lib.value("chunk", "heap/arena.c")
        lengths = self.lib.value("lengths", "heap/arena.c")
        for i in range(table.type.strip_typedefs().range()[1] + 1):
            base, word = int(table[i]["base"]), int(table[i]["map"])
            if base:
                blocks = int(lengths[word >> ARENA_BLOCKS & 3])
                yield i, base, blocks << (ARENA_BLOCK_BITS + i // ARENA_SCALE_SLOTS)

    def chunk_objects(self, slot, base, nbytes):
        """(start, bytes) of each object of a chunk, by the bits that say where one starts."""
        scale = slot // ARENA_SCALE_SLOTS
        granule = ARENA_GRANULE_BITS + scale // 2
        bits = int(self.lib.value("start", "heap/arena.c")[scale])
        per_slot = ARENA_BLOCKS << (ARENA_BLOCK_BITS + scale - granule - 3)  # bytes
        if not bits:
            return
        data = read(bits + slot % ARENA_SCALE_SLOTS * per_slot, nbytes >> granule >> 3)
        for i, byte in enumerate(data):
            for bit in range(8):
                if byte >> bit & 1:
                    at = base + ((8 * i + bit) << granule)
                    yield at, int.from_bytes(read(at - 16, 4), "little")

    def guarded(self, addr):
        """(state, start, bytes, thread that allocated, thread that freed) of a guarded object."""
        start = int(self.lib.value("guarded_start"))
        nbytes = int(self.lib.value("guarded_bytes"))
        if not 0 <= addr - start < nbytes:
            return None
        slots = self.lib.value("slots", "heap/guarded.c")
        pages = 2 * int(self.lib.value("slots_n", "heap/guarded.c")) + 1
        page = (addr - start) // (nbytes // pages)
        if page % 2 == 0:
            return "guard", 0, 0, 0, 0
        s = slots[page // 2]
        return (GUARDED_STATES[int(s["state"])], int(s["object"]), int(s["size"]),
                int(s["allocated"]["tid"]), int(s["freed"]["tid"]))

    def guarded_objects(self):
        """(start, bytes) of each guarded object that is live."""
        if not int(self.lib.value("guarded_bytes")):
            return
        slots = self.lib.value("slots", "heap/guarded.c")
        for i in range(int(self.lib.value("slots_n", "heap/guarded.c"))):
            if GUARDED_STATES[int(slots[i]["state"])] == "live":
                yield int(slots[i]["object"]), int(slots[i]["size"])


def pages_text(view, run):
    i = view.index_of(run)
    return "pages %d to %d of region 0x%x, zone %d" % (
        i, i + run.npages - 1, run.region.at, run.region.zone)


# ---- the commands


class NoCalls:
    """gdb would have the program's malloc make room for arrays and texts, and call its functions
    and operators."""

    def __enter__(self):
        self.before = gdb.parameter("may-call-functions")
        gdb.execute("set may-call-functions off")

    def __exit__(self, *_):
        gdb.execute("set may-call-functions " + ("on" if self.before else "off"))


class Answer(gdb.Command):
    """A command that prints lines."""

    def __init__(self, name, usage):
        super().__init__("sluice " + name, gdb.COMMAND_DATA)
        self.usage = ("usage: sluice %s %s" % (name, usage)).rstrip()

    def lines(self, view, arg):
        raise NotImplementedError

    def invoke(self, arg, from_tty):
        self.dont_repeat()
        view = View()
        try:
            for line in self.lines(view, arg.strip()):
                gdb.write(line + "\n")
        except gdb.MemoryError as e:
            raise gdb.GdbError("%s (a core need not have all of the memory)" % e)
        for text in view.notes:
            gdb.write("note: %s\n" % text)

    def no_argument(self, arg):
        if arg:
            raise gdb.GdbError(self.usage)

    def address(self, arg):
        if not arg:
            raise gdb.GdbError(self.usage)
        if '"' in arg:
            raise gdb.GdbError("%s: a text is no address" % arg)
        try:
            with NoCalls():
                return int(gdb.parse_and_eval("(unsigned long) (%s)" % arg))
        except gdb.MemoryError:
            raise
        except gdb.error as e:
            raise gdb.GdbError("%s: %s" % (arg, str(e).partition("\n")[0]))


def describe(view, addr):
    """Lines that say whose the memory at addr is. The last one is the answer in short."""
    region = view.region_of(addr)
    if region is not None:
        return describe_in_region(view, region, addr)
    for start, n in view.huge():
        if start <= addr < start + n:
            return ["huge object 0x%x, %s, offset %d: live" % (start, size_text(n), addr - start)]
    for start, n in view.kept():
        if start <= addr < start + n:
            return ["free: in a mapping of %s at 0x%x that is kept for the next huge object" % (
                size_text(n), start)]
    for slot, start, n in view.chunks():
        if start <= addr < start + n:
            for at, size in view.chunk_objects(slot, start, n):
                if at <= addr < at + size:
                    return ["object 0x%x of the arena, %d bytes, offset %d: live" % (
                        at, size, addr - at)]
            return ["free: in a chunk of the arena at 0x%x" % start]
    g = view.guarded(addr)
    if g:
        if g[0] == "guard":
            return ["a page without access between guarded objects (guard_sample)"]
        return ["guarded object 0x%x, %d bytes, offset %d: %s" % (g[1], g[2], addr - g[1], g[0]),
                "allocated by thread %d" % g[3]] + (
                    ["freed by thread %d" % g[4]] if g[4] else [])
    return ["not memory that Sluice hands out"]


def describe_in_region(view, region, addr):
    if addr < region.at + view.lib.region.bytes:
        return ["metadata of the region 0x%x, zone %d" % (region.at, region.zone)]
    if (addr - region.start) >> view.lib.pg_shift >= region.pages:
        return ["address space that is held for growth, behind region 0x%x" % region.at]
    run = view.run_of(region, addr)
    if run is None:
        return ["a page that no run or block covers: without access, or it was being changed"]
    where = pages_text(view, run)
    if run.kind == "slab":
        return describe_object(view, run, addr) + [where]
    what = "0x%x, %s" % (run.at, size_text(run.npages << view.lib.pg_shift))
    sample = view.sampled(run.at) if view.get(run, "list") == view.lib.sampled else None
    if run.kind == "large" and sample:
        n, tid = sample
        if addr - run.at >= n:
            return ["the rest of the pages of a sampled object, 0x%x, %d bytes" % (run.at, n),
                    where]
        return ["sampled object 0x%x, %d bytes, offset %d: live" % (run.at, n, addr - run.at),
                "in the heap profile; allocated by thread %d" % tid, where]
    if run.kind == "large":
        cached = view.cached().get(run.at)
        return ["large object %s, offset %d: %s" % (
            what, addr - run.at, "free, " + cached[1] if cached else "live"), where]
    if run.kind in ("buddy", "away", "purging"):
        state = {"buddy": BACKINGS[view.get(run, "backing") % 3],
                 "away": "its address space was given back",
                 "purging": "being given back just now"}[run.kind]
        return ["free: block %s of order %d, %s" % (
            what, (run.npages - 1).bit_length(), state), where]
    if run.kind == "pcp":
        return ["free: run %s in the pcp of %s" % (what, pcp_owner(view, run)), where]
    if run.kind == "raw":
        return ["run %s of the page API (sluice_page_alloc_bulk): live" % what, where]
    if run.pg in set(view.long_runs()):
        return ["free: long run %s that is kept for the next one of its length" % what, where]
    return ["free: run %s on its way between two layers" % what, where]


def pcp_owner(view, run):
    for h, data in view.heaps():
        for _, runs in pcp_runs(view, h, data):
            if any(r.pg == run.pg for r in runs):
                return view.heap_name(h, data)
    return "a heap that was changing it"


def describe_object(view, run, addr):
    s = view.slab(run)
    i = (addr - run.at) // s["size"]
    if i >= s["objects"]:
        return ["the end of the slab 0x%x, behind its last object" % run.at]
    at = run.at + i * s["size"]
    return ["object 0x%x, %d bytes (class %d), offset %d: %s" % (
        at, s["size"], s["cls"], addr - at, view.object_state(run, i)[1]),
        "slab 0x%x, object %d of %d, %d of them live or cached; %s" % (
            run.at, i, s["objects"], s["used"], view.owner_text(s))]


class Block(Answer):
    """Whose memory this is: sluice block ADDR

ADDR is an address or any expression. Says which object, slab, run or mapping it lies in, and
whether that is live, or where it waits to be used again."""

    def __init__(self):
        super().__init__("block", "ADDR")

    def lines(self, view, arg):
        return describe(view, self.address(arg))


class Slab(Answer):
    """The state of the slab that an address lies in: sluice slab ADDR

A slab is a run of pages with objects of one size. The picture has a character for each object."""

    def __init__(self):
        super().__init__("slab", "ADDR")

    def lines(self, view, arg):
        addr = self.address(arg)
        region = view.region_of(addr)
        run = view.run_of(region, addr) if region else None
        if run is None or run.kind != "slab":
            raise gdb.GdbError("0x%x lies in no slab; try: sluice block 0x%x" % (addr, addr))
        s = view.slab(run)
        states = "".join(view.object_state(run, i)[0] for i in range(s["objects"]))
        yield "slab 0x%x, %s" % (run.at, pages_text(view, run))
        yield "%d objects of %d bytes (class %d); %s" % (
            s["objects"], s["size"], s["cls"], view.owner_text(s))
        yield "on list '%s', state word 0x%x%s" % (
            s["list"], s["state"], ", posted to its owner" if s["state"] & STATE_POSTED else "")
        counts = collections.Counter(states)
        yield "live %d, in bins %d, in outboxes %d, in quarantine %d, remote list %d, " \
            "free list %d, in holes %d, never allocated %d" % tuple(counts[c] for c in "#boqr._ ")
        for i in range(0, len(states), 64):
            yield "  %5d |%s|" % (i, states[i:i + 64])
        yield "  # live  b in a bin  o in an outbox  q in quarantine  r remote list  " \
            ". free list  _ in a hole"
        if s["carved"] != s["used"] + len(s["free"]) + s["in_holes"]:
            view.note("carved (%d) is not used (%d) + free list (%d) + in holes (%d): the slab was "
                      "being changed, or is broken" % (s["carved"], s["used"], len(s["free"]),
                                                       s["in_holes"]))


def pcp_runs(view, h, data):
    """(pages of a run, runs) of each list of a heap's pcp that is not empty."""
    f = view.lib.heap
    heads = f.at("pcp.runs")
    for i, npages in enumerate(view.lib.run_pages):
        first = struct.unpack_from("<Q", data, heads + 16 * i)[0]
        if first:
            yield npages, list(view.listed(first, "pcp of heap 0x%x" % h))


def bin_size(view, b):
    classes = len(view.lib.classes)
    if b < classes:
        return view.lib.classes[b][0]
    return view.lib.run_pages[b - classes] << view.lib.pg_shift


def slab_counts(view):
    """Slabs by owner and class."""
    counts = collections.Counter()
    for run in view.runs():
        if run.kind == "slab":
            counts[view.get(run, "owner"), view.get(run, "cls")] += 1
    return counts


class Heap(Answer):
    """What threads cache: sluice heap [THREAD]

Without THREAD, a line for each heap. THREAD is gdb's number of a thread, a TID, or `fallback`; then
its cache bins, its outbox and its pcp are listed."""

    def __init__(self):
        super().__init__("heap", "[THREAD]")

    def lines(self, view, arg):
        if arg:
            return self.one(view, *self.pick(view, arg))
        return self.all(view)

    @staticmethod
    def pick(view, arg):
        tid = None
        for thread in gdb.selected_inferior().threads():
            if str(thread.num) == arg:
                tid = thread.ptid[1]
        for h, data in view.heaps():
            mine = view.lib.heap.get(data, "tid")
            if mine and (mine == tid or tid is None and str(mine) == arg):
                return h, data
            if arg == "fallback":
                return h, data
        raise gdb.GdbError("no thread '%s' that has a heap; `sluice heap` lists them" % arg)

    @staticmethod
    def all(view):
        names = {t.ptid[1]: "%d %s" % (t.num, t.name or "")
                 for t in gdb.selected_inferior().threads()}
        slabs = collections.Counter()
        for (owner, _), n in slab_counts(view).items():
            slabs[owner] += n
        yield "%-20s %9s %9s %9s %6s  %s" % (
            "heap of", "in bins", "in outbox", "in pcp", "slabs", "thread of gdb, state")
        for h, data in view.heaps():
            f = view.lib.heap
            tid = f.get(data, "tid")
            bins = sum(len(o) * bin_size(view, b) for b, o, _ in view.bins(h, data))
            box = sum(len(o) * view.slab(run)["size"] for run, o in view.outbox_entries(h))
            pcp = f.get(data, "pcp.count") << view.lib.pg_shift
            state = f.get(data, "claim") >> 1 & 3
            yield "%-20s %9s %9s %9s %6d  %s%s%s" % (
                view.heap_name(h, data).replace("(heap ", "("), *(
                    "%.1fK" % (n / 1024) for n in (bins, box, pcp)), slabs[h],
                names.get(tid, "-"), ", in a call" if f.get(data, "busy") else "",
                ", claimed" if CLAIM_STATES[state % 3] == "held" else "")

    @staticmethod
    def one(view, h, data):
        yield "heap 0x%x of %s" % (h, view.heap_name(h, data))
        slabs = slab_counts(view)
        yield "%6s %8s %8s %8s %9s %6s" % ("bin", "size", "objects", "places", "bytes", "slabs")
        bins = {b: (o, places) for b, o, places in view.bins(h, data)}
        for b in range(view.lib.heap.count("bin")):
            objects, places = bins.get(b, ((), 0))
            if objects or places or slabs[h, b]:
                yield "%6d %8d %8d %8d %9d %6d" % (
                    b, bin_size(view, b), len(objects), places,
                    len(objects) * bin_size(view, b), slabs[h, b])
        for run, objects in view.outbox_entries(h):
            yield "outbox: %d objects of %d bytes for the slab 0x%x, %s" % (
                len(objects), view.slab(run)["size"], run.at, view.owner_text(view.slab(run)))
        kept = view.quarantine(data)
        if kept:
            yield "quarantine: %d objects" % len(kept)
        f = view.lib.heap
        yield "pcp: %d pages of at most %d" % (f.get(data, "pcp.count"), f.get(data, "pcp.high"))
        for npages, runs in pcp_runs(view, h, data):
            yield "  %3d runs of %d pages: %s%s" % (
                len(runs), npages, " ".join("0x%x" % r.at for r in runs[:4]),
                " ..." if len(runs) > 4 else "")


class Buddy(Answer):
    """The free blocks of each zone, by order and backing: sluice buddy

Walks the lists and compares each block with its descriptor and with the zone's counters."""

    def __init__(self):
        super().__init__("buddy", "")

    def lines(self, view, arg):
        self.no_argument(arg)
        for i, at in view.zones():
            yield from self.zone(view, i, read(at, view.lib.zone.bytes))

    @staticmethod
    def zone(view, i, data):
        f = view.lib.zone
        orders = f.place["blocks"][1] // 16 // 3
        yield "zone %d: %d pages usable, %d free, %d of them dirty" % (
            i, *(f.get(data, n) for n in ("total_pages", "free_pages", "dirty_pages")))
        yield "%6s %8s %8s %8s %10s" % (("order", "pages") + BACKINGS)
        pages = 0
        for order in range(orders):
            row = []
            for backing in range(3):
                first = struct.unpack_from(
                    "<Q", data, f.at("blocks") + 16 * (backing * orders + order))[0]
                what = "zone %d, order %d, %s" % (i, order, BACKINGS[backing])
                blocks = list(view.listed(first, what))
                for run in blocks:
                    if (run.kind, view.get(run, "cls"), view.get(run, "backing")) != (
                            "buddy", order, backing):
                        view.note("%s: the block 0x%x does not belong there" % (what, run.at))
                row.append(len(blocks))
                pages += len(blocks) << order
            if any(row):
                yield "%6d %8d %8d %8d %10d" % (order, 1 << order, *row)
        if pages != f.get(data, "free_pages"):
            view.note("zone %d: the lists have %d pages: they were being changed, or are broken" % (
                i, pages))


class Find(Answer):
    """The live objects that contain a value: sluice find EXPRESSION | "TEXT"

An expression is looked for as a word of 8 bytes at a multiple of 8: who points to it. A text is
looked for as its bytes, anywhere. At most 100 places are listed."""

    def __init__(self):
        super().__init__("find", 'EXPRESSION | "TEXT"')

    def lines(self, view, arg):
        if not arg:
            raise gdb.GdbError(self.usage)
        text = len(arg) > 1 and arg.startswith('"') and arg.endswith('"')
        if arg == '""':
            raise gdb.GdbError("an empty text is everywhere")
        pattern = arg[1:-1].encode() if text else struct.pack("<Q", self.address(arg) & WORD)
        step = 1 if text else 8
        found = free = 0
        for at, n in self.places(view):
            for hit in self.hits(view, at, n, pattern, step):
                line = describe(view, hit)[0]
                if not line.endswith(": live"):
                    free += 1
                    continue
                found += 1
                if found <= FIND_MOST:
                    yield "0x%x: %s" % (hit, line[:-len(": live")])
        yield "%d in live objects%s, %d in free memory" % (
            found, " (the first %d are listed)" % FIND_MOST if found > FIND_MOST else "", free)

    @staticmethod
    def places(view):
        for run in view.runs():
            if run.kind == "slab":
                yield run.at, view.carved(run)
            elif run.kind in ("large", "raw"):
                yield run.at, run.npages << view.lib.pg_shift
        yield from view.huge()
        yield from view.guarded_objects()
        for slot, base, nbytes in view.chunks():
            yield from view.chunk_objects(slot, base, nbytes)

    @staticmethod
    def hits(view, at, n, pattern, step):
        inferior = gdb.selected_inferior()
        end = at + n
        while end - at >= len(pattern):
            try:
                hit = inferior.search_memory(at, end - at, pattern)
            except gdb.MemoryError:
                hit = None
                view.note("some of the memory cannot be read")
            if hit is None:
                return
            if hit % step == 0:
                yield hit
            at = hit + 1


class Summary(Answer):
    """Where the memory is: sluice summary

Bytes by layer, and the size classes that have most."""

    def __init__(self):
        super().__init__("summary", "")

    def lines(self, view, arg):
        self.no_argument(arg)
        kinds = collections.Counter()
        free = collections.Counter()
        classes = collections.defaultdict(collections.Counter)
        cached = collections.Counter()
        for run in view.runs():
            nbytes = run.npages << view.lib.pg_shift
            kinds[run.kind] += nbytes
            if run.kind == "buddy":
                free[BACKINGS[view.get(run, "backing") % 3]] += nbytes
            elif run.kind == "slab":
                c = classes[view.get(run, "cls")]
                c["slabs"] += 1
                c["bytes"] += nbytes
                c["used"] += view.second(run, "held.used") - (view.get(run, "state") >> 48)
        self.take_cached(view, classes, cached)
        yield from self.layers(view, kinds, free, classes, cached)
        yield "%8s %8s %9s %9s %12s %12s" % (
            "size", "slabs", "live", "cached", "live bytes", "slabs' bytes")
        size = lambda cls: view.lib.classes[cls][0]
        order = sorted(classes, key=lambda cls: -classes[cls]["bytes"])
        for cls in order[:10]:
            c = classes[cls]
            yield "%8d %8d %9d %9d %12d %12d" % (
                size(cls), c["slabs"], c["used"] - c["cached"], c["cached"],
                (c["used"] - c["cached"]) * size(cls), c["bytes"])

    @staticmethod
    def take_cached(view, classes, cached):
        for at, (kind, _) in view.cached().items():
            region = view.region_of(at)
            run = view.run_of(region, at) if region else None
            if run is None:
                continue
            if run.kind == "slab":
                cls = view.get(run, "cls")
                classes[cls]["cached"] += 1
                cached[kind] += view.lib.classes[cls][0]
            elif run.kind == "large":
                cached["large in " + kind] += run.npages << view.lib.pg_shift

    @staticmethod
    def layers(view, kinds, free, classes, cached):
        size = lambda cls: view.lib.classes[cls][0]
        live = sum((c["used"] - c["cached"]) * size(cls) for cls, c in classes.items())
        kept = sum(view.descriptor_run(pg).npages for pg in view.long_runs())
        kept <<= view.lib.pg_shift
        rows = (
            ("live small objects", live),
            ("  free: in cache bins", cached["bin"]),
            ("  free: in outboxes", cached["outbox"]),
            ("  free: in quarantine", cached["quarantine"]),
            ("  rest of their slabs", kinds["slab"] - live - cached["bin"] - cached["outbox"] -
             cached["quarantine"]),
            ("live large objects", kinds["large"] - cached["large in bin"] -
             cached["large in quarantine"]),
            ("  free: in cache bins", cached["large in bin"]),
            ("  free: in quarantine", cached["large in quarantine"]),
            ("live huge objects", sum(n for _, n in view.huge())),
            ("  mappings that are kept", sum(n for _, n in view.kept())),
            ("guarded objects", sum(n for _, n in view.guarded_objects())),
            ("page API", kinds["raw"]),
            ("arena", sum(n for _, _, n in view.chunks())),
            ("free: in pcps", kinds["pcp"]),
            ("free: long runs that are kept", kept),
            ("free blocks, dirty at least in part", free["dirty"]),
            ("free blocks, prefaulted", free["prefaulted"]),
            ("free blocks, clean (cost no memory)", free["clean"]),
        )
        for name, n in rows:
            if n or not name.startswith((" ", "free", "guarded", "page", "arena")):
                yield "%-38s %14d  %s" % (name, n, size_text(n))
        heaps = list(view.heaps())
        yield "%d heaps, %d of them of threads; %d regions in %d zones" % (
            len(heaps), sum(1 for _, d in heaps if view.lib.heap.get(d, "tid")),
            len(view.regions()), len(list(view.zones())))


class Sluice(gdb.Command):
    """What Sluice's malloc knows of the program: sluice block, slab, heap, buddy, find, summary

The program must be stopped; a core will do as well. Needs the debug information of libsluice."""

    def __init__(self):
        super().__init__("sluice", gdb.COMMAND_DATA, prefix=True)


Sluice()
for command in Block, Slab, Heap, Buddy, Find, Summary:
    command()
