# SPDX-License-Identifier: BSD-2-Clause
"""Names of the functions of a profile, from the files that were mapped, by addr2line (binutils)."""

import bisect
import os
import re
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass

from ..common.command import complain

PHDR_BYTES = 56  # of a program header of ELF, 64 bits
SHDR_BYTES = 64
SYMBOL_BYTES = 24
SYMBOL_TABLES = (2, 11)  # SHT_SYMTAB, SHT_DYNSYM
IN_TEXT = (0, 2, 10)  # STT_NOTYPE, STT_FUNC, STT_GNU_IFUNC


@dataclass
class Line:
    """A function at an address; inlined ones come before those that they are part of."""
    function: str
    file: str = ""
    line: int = 0


def open_regular(path):
    """The open of another kind of file might wait or have an effect, and its read might not end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")


def program_headers(path):
    with open_regular(path) as f:
        head = f.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return b""
        table, = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        f.seek(table)
        return f.read(size * count) if size == PHDR_BYTES else b""


def segments(path):
    """(offset, size, virtual address) of what an ELF file has loaded; none of another file."""
    try:
        rows = program_headers(path)
    except (OSError, ValueError, OverflowError):
        return []
    found = []
    for at in range(0, len(rows) - PHDR_BYTES + 1, PHDR_BYTES):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", rows, at)
        if kind == 1:
            found.append((offset, length, address))
    return found


def symbol_tables(f):
    """The contents of the symbol tables of an ELF file."""
    size = os.fstat(f.fileno()).st_size
    head = f.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return
    at, = struct.unpack_from("<Q", head, 40)
    row, count = struct.unpack_from("<HH", head, 58)
    if row != SHDR_BYTES or at + row * count > size:
        return
    f.seek(at)
    for _, kind, _, _, offset, length, *_ in struct.iter_unpack("<IIQQQQIIQQ", f.read(row * count)):
        if kind in SYMBOL_TABLES and offset + length <= size:
            f.seek(offset)
            yield f.read(length - length % SYMBOL_BYTES)


def functions(path):
    """(address, size) of the functions in an ELF file's symbol tables, in order."""
    found = set()
    try:
        with open_regular(path) as f:
            for table in symbol_tables(f):
                found.update((address, size) for _, info, _, section, address, size
                             in struct.iter_unpack("<IBBHQQ", table)
                             if section and info & 15 in IN_TEXT)
    except (OSError, ValueError):
        return []
    return sorted(found)


def is_behind(symbols, address):
    """Whether the address belongs to none of the functions, but to one without a symbol."""
    at = bisect.bisect(symbols, (address, 1 << 64)) - 1
    return at >= 0 and 0 < symbols[at][1] <= address - symbols[at][0]


def addr2line(path, addresses):
    """A list of lines for each address, or {} if the program is missing or fails."""
    tool = shutil.which("addr2line")
    if not tool:
        return {}
    text = "".join(f"{a:#x}\n" for a in addresses)
    done = subprocess.run([tool, "-a", "-f", "-C", "-i", "-e", path], input=text,
                          encoding="utf-8", errors="replace", capture_output=True, check=False)
    found, now, names = {}, [], []
    for line in done.stdout.split("\n"):
        if not names and re.fullmatch("0x[0-9a-f]+", line):
            now = found.setdefault(int(line, 16), [])
        elif not names:
            names.append(line)
        else:
            file, _, number = line.rpartition(":")
            digits = re.match("[0-9]{0,9}", number).group()
            now.append(Line(names.pop(), "" if file == "??" else file, int(digits or 0)))
    return found


class Symbols:
    def __init__(self, profile):
        self.mappings = sorted(profile.mappings, key=lambda m: m.start)
        self.starts = [m.start for m in self.mappings]
        self.lines = {}
        by_file = {}
        for pc in {pc for s in profile.sites for pc in s.stack}:
            mapping = self.mapping(pc - 1)
            if mapping:
                by_file.setdefault(mapping.path, []).append((pc, mapping))
        if not shutil.which("addr2line"):
            complain("addr2line is not installed (Debian package binutils): no names of functions")
        for path, found in by_file.items():
            self.look_up(path, found)

    def mapping(self, address):
        at = bisect.bisect(self.starts, address) - 1
        return self.mappings[at] if at >= 0 and address < self.mappings[at].end else None

    def look_up(self, path, found):
        """A return address is behind its call: the byte before it belongs to the caller."""
        loaded = segments(path)
        virtual = {}
        for pc, mapping in found:
            at = pc - 1 - mapping.start + mapping.offset
            for offset, length, address in loaded:
                if offset <= at < offset + length:
                    virtual[pc] = at - offset + address
        names = addr2line(path, sorted(set(virtual.values()))) if virtual else {}
        # Without debug information addr2line takes the symbol before the address, however far. In a
        # stripped file that is often another function.
        nearest = any(line.function != "??" and not line.file for n in names.values() for line in n)
        symbols = functions(path) if nearest else []
        for pc, mapping in found:
            lines = names.get(virtual.get(pc), [])
            if not lines or lines[0].function == "??" or (
                    not lines[-1].file and is_behind(symbols, virtual[pc])):
                at = pc - 1 - mapping.start + mapping.offset
                lines = [Line(f"{os.path.basename(path)}+{at:#x}")]
            self.lines[pc] = lines

    def of(self, pc):
        return self.lines.get(pc) or [Line("no stack" if pc == 1 else f"{pc - 1:#x}")]

    def names(self, stack):
        """Innermost first, with inlined functions."""
        return [line.function for pc in stack for line in self.of(pc)]
