#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# sluice-prof: damaged profiles are refused in one line, files that they name are not waited for, a
# function without a symbol gets no other one's name, and an output that is no regular file stays
# what it is.
. "${0%/*}/../lib/tap.sh"
plan 33
tmpdir
cd "$TMP" || exit 1

tool=$builddir/tools/sluice-prof
good="  t*: 1: 10 [1: 10]"
long=$(printf '1%0330d' 0)

# profile HEAD SITE LINE...: writes one
profile() {
	printf '%s\n' "heap_v2/$1" "@ $2" >heap
	shift 2
	printf '%s\n' "$@" MAPPED_LIBRARIES: >>heap
}

# refused REGEX LABEL: one line, in each form
refused() {
	lines=
	for form in text lifetimes folded pprof; do
		out=$("$tool" --format $form -o out heap 2>&1)
		lines="$lines $? $(printf '%s\n' "$out" | grep -c '') $(printf '%s\n' "$out" |
			grep -c -E "$1")"
	done
	is "$lines" " 1 1 1 1 1 1 1 1 1 1 1 1" "$2" || diag "$out"
}

for head in "$long" "$(printf '1%05000d' 0)" 0 -1 18446744073709551616 1x; do
	profile "$head" 0x1 "$good"
	refused "heap: not a heap profile" "a mean of $(echo "$head" | cut -c 1-20) is refused"
done
for site in -0x5 "0x$long" 0x10000000000000000 zz 1_0; do
	profile 100 "$site" "$good"
	refused "line 2 is damaged" "the address $(echo "$site" | cut -c 1-20) is refused"
done
for line in "  t*: $long: 1 [1: 1]" "  t*: 1: 1 [1]" "  age: 1" "  age: 1 2 3" "  idle: 5" \
	"  idle: x 5" "  pins: -5" "  pins: 1 2" "  life: 1" "  life: 1 1 3000:1" \
	"  life: 1 1 3" "  life: 1 1 3:$long"; do
	profile 100 0x1 "$good" "$line"
	refused "line 4 is damaged" "the line$(echo "$line" | cut -c 2-20) is refused"
done

# mapped FILE: a profile with an address in it
mapped() {
	profile 100 0x401000 "$good"
	printf '00400000-00500000 r-xp 00000000 00:00 1 %b\n' "$TMP/$1" >>heap
}
mkfifo fifo
/usr/bin/python3 -c '
import struct
for name, table, size in ("size", 64, 0), ("far", 2 ** 64 - 1, 56), ("end", 2 ** 63 - 1, 56):
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 32, table)
    struct.pack_into("<HH", head, 54, size, 5)
    open(name, "wb").write(head)'
out=
for file in size far end 'a\0000b' fifo .; do
	mapped "$file"
	out="$out$(timeout 60 "$tool" --format folded heap 2>err) $(grep -c Traceback err)
"
done
is "$(printf '%s\n' "$out" | sed 's/^.*+/+/' | sort -u)" "
+0xfff 105 0" "a damaged ELF file, or what is no file, gives no names"

# named FILE ADDRESS: the function, not those inlined into it, that an address in the file is called
named() {
	profile 100 "$(printf '0x%x' $((0x7f0000000000 + 0x$2 + 1)))" "$good"
	printf '7f0000000000-7f0001000000 r-xp 00000000 00:00 1 %s\n' "$TMP/$1" >>heap
	"$tool" --format folded heap | sed "s/[; ].*//"
}
whole="a function without a symbol is named by its file and offset"
part="one with a symbol by that"
lib=$builddir/.libs/libsluice.so.0
if [ -e "$lib" ] && command -v addr2line nm strip >/dev/null &&
	cp "$lib" whole && strip -o stripped whole; then
	address() {
		nm whole | awk -v name="$1" '$3 == name { sub(/^0+/, "", $1); print $1 }'
	}
	inner=$(address heap_init)
	is "$(named whole "$inner") $(named stripped "$inner")" \
		"heap_init stripped+0x$inner" "$whole"
	is "$(named whole "$(address sluice_drain)") $(named stripped "$(address sluice_drain)")" \
		"sluice_drain sluice_drain" "$part"
else
	skip "$whole" "no library, or no addr2line, nm and strip (binutils)"
	skip "$part" "no library, or no addr2line, nm and strip (binutils)"
fi

profile 100 0x1 "$good"
mkfifo pipe
timeout 60 cat pipe >piped &
"$tool" --format folded -o pipe heap
wait
is "$(ls -F pipe) $(cat piped)" "pipe| no stack 105" "an output that is a FIFO stays one"
mkdir links
ln -s links/none dangling
echo old >links/target
ln -s links/target link
"$tool" --format folded -o dangling heap
"$tool" --format folded -o link heap
is "$(readlink dangling link | tr '\n' ' ')$(cat links/none links/target | sort -u)" \
	"links/none links/target no stack 105" "one that is a symbolic link is followed"
out=$("$tool" "" 2>&1)
is "$? $out" "1 sluice-prof: '': No such file or directory" "an empty name is shown"
out=$("$tool" -o "" heap 2>&1)
is "$? $out" "2 sluice-prof: --output '': cannot be written" "so is that of an output"
mkdir folder
out=$("$tool" -o folder heap 2>&1)
is "$? $out $(ls -A folder)" "1 sluice-prof: folder: Is a directory " "a directory is refused"
is "$(find . -name 'tmp*')" "" "no file is left behind"
if mknod full c 1 7 2>/dev/null && (: >full) 2>/dev/null; then
	out=$("$tool" -o full heap 2>&1)
	is "$? $out $(find . -name full -type c)" \
		"1 sluice-prof: full: No space left on device ./full" \
		"an output that is a device stays one"
else
	skip "an output that is a device stays one" "no devices can be made here"
fi
