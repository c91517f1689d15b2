#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# tar with xz on two threads, and back.
. "${0%/*}/../lib/tap.sh"
need tar
need xz xz-utils
plan 5

cd "$TMP" || exit 1
mkdir -p in/a/b in/c plain sluice
for i in $(seq 1 60); do
	seq "$i" $((i * 700)) >"in/a/file$i"
	seq 1 "$i" | tr '\n' x >"in/a/b/name $i"
done
ln -s ../a/file3 in/c/link
head -c 6000000 /dev/zero | openssl enc -aes-128-ctr -K 00 -iv 00 2>/dev/null >in/c/random ||
	head -c 6000000 /dev/urandom >in/c/random
set -- --sort=name --mtime=@0 --owner=0 --group=0 -I 'xz -T2 -1 --block-size=2MiB'

tar "$@" -cf plain.tar.xz in
with_sluice tar "$@" -cf sluice.tar.xz in
ok $? "tar and xz -T2 end well"
ok "$(cmp plain.tar.xz sluice.tar.xz >&2; echo $?)" "the archive is the same as without the library"
with_sluice tar -I 'xz -T2' -C sluice -xf sluice.tar.xz
ok "$?$(diff -r in sluice/in >&2; echo $?)" "all files are the same when extracted again"
proved_loaded "tar was served by the library" tar
proved_loaded "xz was served by the library" xz
