#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# perl: hashes, strings that grow, sorting, regular expressions, fork.
. "${0%/*}/../lib/tap.sh"
need perl
plan 3

cat >"$TMP/test.pl" <<'PERL'
use strict; use warnings;
my %h; my $x = 12345;
for my $i (1 .. 100_000) {
	$x = ($x * 1103515245 + 12345) % 2147483648;
	push @{$h{$x % 5000}}, "value $x " x ($x % 7);
	delete $h{$x % 3000} if $i % 11 == 0;
}
my $all = join "|", map { "$_=" . join ",", @{$h{$_}} } sort { $a <=> $b } keys %h;
my $sum = unpack "%32C*", $all;
printf "%d keys, %d characters, sum %d\n", scalar(keys %h), length $all, $sum;
my $grown = ""; $grown .= chr(65 + $_ % 26) x 50 for 1 .. 40_000;
(my $changed = $grown) =~ s/(A+)/length $1/ge;
printf "%d, then %d characters\n", length $grown, length $changed;
my @sorted = sort map { ($_ * 7919) % 100_003 } 1 .. 50_000;
print "first $sorted[0], last $sorted[-1]\n";
my @pids;
for my $n (1 .. 20) {
	my $pid = fork // die; push @pids, $pid; next if $pid;
	my %mine = map { $_ => "x" x $n } 1 .. 2000; undef %h;
	exit(scalar(keys %mine) == 2000 ? $n : 255);
}
my $ended = 0; for (@pids) { waitpid $_, 0; $ended += $? >> 8 }
print "children ended with $ended\n", "piped: ", `echo from a shell`;
PERL

want=$(perl "$TMP/test.pl")
out=$(with_sluice perl "$TMP/test.pl" 2>&1)
is "$?" 0 "perl ends well"
is "$out" "$want" "perl says the same as without the library"
proved_loaded "perl was served by the library" perl
