# SPDX-License-Identifier: BSD-2-Clause
"""Profiles as text: folded stacks, and tables for people."""

STACK_NAMES = 3


def size_text(n):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return ""


def time_text(ns):
    for unit, factor in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.0f} ns"


def weight(profile, site, what):
    """Bytes of a site: live, ever, idle or pinned."""
    if what == "pinned":
        return float(site.pinned)
    return profile.scaled(getattr(site, what))[1]


def folded(profile, symbols, what):
    """A line for each stack, outermost function first, and its bytes: what flame graphs take."""
    stacks = {}
    for site in profile.sites:
        names = [name.replace(";", ":") for name in reversed(symbols.names(site.stack))]
        key = ";".join(names) or "no stack"
        stacks[key] = stacks.get(key, 0) + weight(profile, site, what)
    return "".join(f"{key} {n:.0f}\n" for key, n in sorted(stacks.items()) if round(n))


def table(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return "".join("  ".join([text.rjust(w) for text, w in zip(row, widths)] + [row[-1]]) + "\n"
                   for row in rows)


def site_text(symbols, site):
    return " < ".join(symbols.names(site.stack)[:STACK_NAMES]) or "no stack"


def largest(profile, what, top):
    found = sorted(profile.sites, key=lambda s: -weight(profile, s, what))
    return [s for s in found if weight(profile, s, what) >= 1][:top]


def sizes(profile, symbols, what, top):
    """The call sites with the most bytes."""
    total = sum(weight(profile, s, what) for s in profile.sites)
    rows = [(f"{what} bytes", "share", "live", "idle", "pinned", "samples", "call site")]
    for s in largest(profile, what, top):
        n = weight(profile, s, what)
        rows.append((f"{n:.0f}", f"{n / total:.1%}",
                     *(size_text(weight(profile, s, w)) for w in ("live", "idle", "pinned")),
                     str(s.ever[0] if what == "ever" else s.live[0]), site_text(symbols, s)))
    return table(rows)


def percentile(site, share):
    """Of the lifetimes of freed objects, in ns: the middle of a step, on its scale."""
    wanted = share * sum(site.lifetimes.values())
    for step, n in sorted(site.lifetimes.items()):
        wanted -= n
        if wanted <= 0:
            return 2 ** (step - 0.5)
    return 0.0


def lifetimes(profile, symbols, top):
    """How long objects live, by call site; those that allocate most come first."""
    rows = [("freed", "mean life", "median", "p99", "live", "mean age", "live bytes", "call site")]
    for s in largest(profile, "ever", top):
        row = [f"{s.freed}"]
        row += [time_text(ns) if s.freed else "-"
                for ns in (s.freed_ns / max(s.freed, 1), percentile(s, 0.5), percentile(s, 0.99))]
        row += [f"{s.live[0]}", time_text(s.age[1] / s.age[0]) if s.age[0] else "-"]
        rows.append((*row, size_text(weight(profile, s, "live")), site_text(symbols, s)))
    return table(rows)
