# SPDX-License-Identifier: BSD-2-Clause
"""Names of the functions of a profile, from the files that were mapped, by addr2line (binutils)."""

import bisect
import os
import shutil
import struct
import subprocess
from dataclasses import dataclass

from ..common.command import complain


@dataclass
class Line:
    """A function at an address; inlined ones come before those that they are part of."""
    function: str
    file: str = ""
    line: int = 0


def segments(path):
    """(offset, size, virtual address) of what an ELF file has loaded; none of another file."""
    with open(path, "rb") as f:
        head = f.read(64)
        if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
            return []
        table, = struct.unpack_from("<Q", head, 32)
        size, count = struct.unpack_from("<HH", head, 54)
        f.seek(table)
        rows = f.read(size * count)
    found = []
    for at in range(0, len(rows) - 55, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", rows, at)
        if kind == 1:
            found.append((offset, length, address))
    return found


def addr2line(path, addresses):
    """A list of lines for each address, or {} if the program is missing or fails."""
    tool = shutil.which("addr2line")
    if not tool:
        return {}
    text = "".join(f"{a:#x}\n" for a in addresses)
    done = subprocess.run([tool, "-a", "-f", "-C", "-i", "-e", path], input=text, text=True,
                          capture_output=True, check=False)
    found, now, names = {}, None, []
    for line in done.stdout.splitlines():
        if line.startswith("0x") and not names:
            now = found.setdefault(int(line, 16), [])
        elif not names:
            names.append(line)
        else:
            file, _, number = line.rpartition(":")
            digits = number.split(" ")[0]
            now.append(Line(names.pop(), "" if file == "??" else file,
                            int(digits) if digits.isdigit() else 0))
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
        try:
            loaded = segments(path)
        except OSError:
            loaded = []
        virtual = {}
        for pc, mapping in found:
            at = pc - 1 - mapping.start + mapping.offset
            for offset, length, address in loaded:
                if offset <= at < offset + length:
                    virtual[pc] = at - offset + address
        names = addr2line(path, sorted(set(virtual.values()))) if virtual else {}
        for pc, mapping in found:
            lines = names.get(virtual.get(pc), [])
            if not lines or lines[0].function == "??":
                at = pc - 1 - mapping.start + mapping.offset
                lines = [Line(f"{os.path.basename(path)}+{at:#x}")]
            self.lines[pc] = lines

    def of(self, pc):
        return self.lines.get(pc) or [Line("no stack" if pc == 1 else f"{pc - 1:#x}")]

    def names(self, stack):
        """Innermost first, with inlined functions."""
        return [line.function for pc in stack for line in self.of(pc)]
