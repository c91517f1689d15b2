#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# git: init, commit, merge, clone, fsck, gc with threads. Dates and names are fixed, so that the
# hashes must be the same as without the library.
. "${0%/*}/../lib/tap.sh"
need git
plan 8

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='1700000000 +0000'
export GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@example.org GIT_COMMITTER_DATE='1700000000 +0000'

# work DIRECTORY COMMAND...: builds a history with that git, prints its hashes
work() {
	dir=$1
	shift
	mkdir "$dir" && cd "$dir" || return 1
	"$@" init -q -b main . || return 1
	for c in 1 2 3 4 5 6 7 8; do
		i=0
		while [ $i -lt 40 ]; do
			seq $((c * i)) $((c * i + 200 + i)) >"file$i"
			i=$((i + 1))
		done
		mkdir -p "dir$c" && seq 1 "${c}000" >"dir$c/numbers"
		"$@" add -A && "$@" commit -q -m "commit $c" || return 1
	done
	"$@" checkout -q -b side HEAD~3 && echo side >side && "$@" add side &&
		"$@" commit -q -m side && "$@" checkout -q main &&
		"$@" merge -q --no-edit side || return 1
	"$@" log --format=%H --all | sort
	"$@" diff --stat HEAD~4 | tail -n 1
	"$@" blame file7 | cut -c 1-8 | sort | uniq -c
}

(work "$TMP/plain" git) >"$TMP/want" 2>&1
(work "$TMP/sluice" with_sluice git) >"$TMP/got" 2>&1
is $? 0 "git commits and merges"
ok "$(cmp "$TMP/want" "$TMP/got" >&2; echo $?)" "hashes, diff and blame are as without the library"
proved_loaded "git was served by the library" git

cd "$TMP" || exit 1
with_sluice git clone -q --no-local sluice clone
is "$?, $(git -C clone rev-parse HEAD)" "0, $(git -C plain rev-parse HEAD)" \
	"a clone has the same head"
out=$(with_sluice git -C clone fsck --full --strict 2>&1)
is "$?, $out" "0, " "fsck finds no fault"
with_sluice git -C clone -c pack.threads=2 gc -q --aggressive --prune=now
ok $? "gc runs with two threads"
is "$(git -C clone fsck --full 2>&1), $(find clone/.git/objects -type f ! -path '*/pack/*' \
	! -path '*/info/*' | wc -l)" \
	", 0" "after gc all is packed, and sound for a git without the library"
with_sluice git -C clone archive --format=tar HEAD | tar -xOf - dir3/numbers >"$TMP/numbers"
is "$(sha256sum <"$TMP/numbers")" "$(seq 1 3000 | sha256sum)" "an archive has the files"
