# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# Debian packages, configure and make. tools/quickstart, tools/check and .ci/run source this file.
# It sets
#
#	top		the source tree
#	builddir	the build directory: ./build, or the source tree if that is configured
#
# Before it sources this file, the caller sets top, and `me`, its name for messages.

: "${me:?}" "${top:?}"

# What configure and make need, and what is optional.
BUILD_PACKAGES="autoconf automake gcc libc6-dev libtool make pkg-config python3"
BUILD_OPTIONAL="libncurses-dev libunwind-dev systemtap-sdt-dev"

# without PACKAGE: prints what is lost without an optional package.
without() {
	case $1 in
	libncurses-dev) echo "no sluice-top" ;;
	libunwind-dev) echo "no backtrace when Sluice stops a program" ;;
	systemtap-sdt-dev) echo "no probe points for tracers" ;;
	esac
}

# What the tests run in addition. A test whose program is missing is skipped. The largest is
# mariadb-server, 190 MB on the disk.
TEST_PACKAGES="apache2-utils bind9-utils binutils bpftrace bubblewrap cmake criu curl
	default-jdk-headless eatmydata fakeroot faketime g++ gdb git gnuplot-nox graphviz groff-base
	heaptrack libc-bin libcap2-bin libjemalloc-dev libmemcached-tools ltrace lua5.4 man-db
	mariadb-server memcached nginx nodejs openssh-client openssl perl postgresql procps python3
	redis-server redis-tools spin sqlite3 strace stress-ng sysbench tar uftrace util-linux
	valgrind wrk xz-utils"

# What make lint and the sanitizers need.
LINT_PACKAGES="clang clang-format clang-tidy cppcheck libclang-rt-dev shellcheck"

# What .ci/run needs to build for other machines and C libraries, and Debian's packages.
OTHER_PACKAGES="debhelper dpkg-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross lintian
	linux-libc-dev musl-tools qemu-user"

# Long enough that only a test that hangs is killed, not one that waits for a busy machine.
export SLUICE_TEST_TIMEOUT_MULT="${SLUICE_TEST_TIMEOUT_MULT:-5}"

say() {
	printf '== %s\n' "$*"
}

die() {
	printf '%s: %s\n' "$me" "$*" >&2
	exit 1
}

# beat WHAT: prints every 20 s that WHAT goes on, until beat is killed or the script ends.
beat() {
	beat_s=0
	while sleep 20 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
		beat_s=$((beat_s + 20))
		say "   $1: $beat_s s so far"
	done
}

# with_beat WHAT COMMAND...: runs COMMAND, and beat beside it.
with_beat() {
	beat "$1" </dev/null &
	beater=$!
	shift
	"$@"
	beat_status=$?
	kill "$beater"
	wait "$beater" 2>/dev/null
	return "$beat_status"
}

have_package() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# apt_install PACKAGES...: asks no questions. The packages' services are neither started nor
# enabled, and PostgreSQL makes no cluster, because nothing here needs them.
apt_install() {
	# shellcheck disable=SC2016
	as_root env DEBIAN_FRONTEND=noninteractive sh -c '
		policy=/usr/sbin/policy-rc.d
		cluster=/etc/postgresql-common/createcluster.d/sluice-check.conf
		made=
		if [ ! -e "$policy" ]; then
			printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy" &&
				made=$policy
		fi
		if [ ! -e "$cluster" ] && mkdir -p "${cluster%/*}"; then
			echo "create_main_cluster = false" >"$cluster" && made="$made $cluster"
		fi
		units=/lib/systemd/system
		ls "$units" 2>/dev/null | sort >"$policy.before"
		apt-get -q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install "$@"
		status=$?
		for unit in $(ls "$units" 2>/dev/null | sort | comm -13 "$policy.before" -); do
			case $unit in
			*@*) ;;
			*.service | *.socket | *.timer)
				deb-systemd-helper disable "$unit" || true
				[ ! -e "/etc/init.d/${unit%.*}" ] ||
					update-rc.d "${unit%.*}" disable || true
				;;
			esac
		done
		rm -f $made "$policy.before"
		exit $status
	' sh "$@" </dev/null
}

# how_large PACKAGES...: prints the sizes of the packages with their dependencies, as apt-get says.
how_large() {
	LC_ALL=C apt-get -q --assume-no --no-install-recommends install "$@" \
		2>/dev/null </dev/null |
		awk '
		/^Need to get/ { got = $4 " " $5 }
		/^After this operation/ { size = $4 " " $5 }
		END { if (size) print got " to fetch, " size " on the disk" }
	'
}

apt_updated=

# packages must|may WHAT_FOR NAMES...: says which packages are missing and installs them. With
# "may", a package that cannot be installed is named and skipped.
packages() {
	how=$1
	what_for=$2
	shift 2
	if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
		say "not a Debian system, nothing is installed; needed $what_for: $*"
		return 0
	fi
	missing=
	for p; do
		have_package "$p" || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null 2>&1; then
		if [ "$how" = must ]; then
			die "not root and no sudo; as root run: apt-get install$missing"
		fi
		say "not installed (not root and no sudo), wanted $what_for:$missing"
		return 0
	fi
	mkdir -p "$builddir"
	log=$builddir/packages.log
	if [ -z "$apt_updated" ]; then
		with_beat "reading the package lists" logged_quietly "$log" \
			as_root apt-get -q -o DPkg::Lock::Timeout=300 update ||
			say "apt-get update failed, see $log"
		apt_updated=1
	fi
	say "installing Debian packages $what_for:$missing"
	# shellcheck disable=SC2086
	say "   with what they need $(how_large $missing); no service is started or enabled"
	# shellcheck disable=SC2086
	if with_beat installing logged_quietly "$log" apt_install $missing; then
		return 0
	fi
	if [ "$how" = must ]; then
		tail -n 20 "$log" >&2
		die "cannot install:$missing (see $log)"
	fi
	for p in $missing; do
		with_beat "installing $p" logged_quietly "$log" apt_install "$p" ||
			say "cannot install $p, what needs it is skipped"
	done
}

# logged_quietly LOG COMMAND...: appends what COMMAND prints to LOG.
logged_quietly() {
	quiet_log=$1
	shift
	"$@" >>"$quiet_log" 2>&1 </dev/null
}

# configured_with DIR OPTION: succeeds if DIR was configured with OPTION.
configured_with() {
	"$1/config.status" --config 2>/dev/null | grep -q -e "$2"
}

# logged LOG COMMAND...: appends what COMMAND prints to LOG; shows the end of LOG if it fails.
logged() {
	logged_to=$1
	shift
	logged_name=${1##*/}
	if with_beat "$logged_name" logged_quietly "$logged_to" "$@"; then
		return 0
	fi
	tail -n 40 "$logged_to" >&2
	printf '%s: failed: %s (all of it: %s)\n' "$me" "$*" "$logged_to" >&2
	return 1
}

jobs() {
	nproc 2>/dev/null || echo 1
}

# test_jobs: prints how many tests run at a time. Most tests wait half of their time.
test_jobs() {
	echo $(($(jobs) * 3 / 2 + 1))
}

# slowest TIMES: prints the ten tests that took longest, by the file that SLUICE_TEST_TIMES names
# (build-aux/run-test).
slowest() {
	sed -n 's/^end \([^ ]*\) \([0-9]*\)$/\2 \1/p' "$1" 2>/dev/null | sort -k 1,1nr | awk '
		$1 > 0 && !seen[$2]++ && n++ < 10 {
			list = list (list == "" ? "" : ", ") $2 " " $1 " s"
		}
		END { print list == "" ? "none took a second" : list }'
}

# build DIR SOURCE OPTIONS...: configures and makes SOURCE in DIR, each only if needed. If an
# existing configuration lacks one of OPTIONS, build configures again.
build() (
	dir=$1
	src=$2
	shift 2
	mkdir -p "$dir" || exit 1
	log=$dir/build.log
	: >"$log"
	if [ ! -x "$src/configure" ]; then
		say "making configure (autogen.sh)"
		logged "$log" "$src/autogen.sh" || exit 1
	fi
	cd "$dir" || exit 1
	again=
	if [ -f config.status ]; then
		for o; do
			configured_with . "$o" || again=1
		done
	fi
	if [ ! -f Makefile ] || [ -n "$again" ]; then
		say "configuring in $dir${1:+ with $*}"
		logged "$log" "$src/configure" "$@" || exit 1
	fi
	if [ -n "$again" ]; then
		logged "$log" make clean || exit 1
	fi
	# `make -q` cannot tell whether there is anything to do, because the rule for config.h
	# always runs.
	say "building in $dir (what is up to date stays)"
	logged "$log" make -j"$(jobs)" all || exit 1
)

# build_tests: builds the test programs in the current directory, several at a time as `make check`
# without -j would not.
build_tests() {
	say "building the test programs in $PWD"
	logged "$PWD/build.log" make -k -j"$(jobs)" tests
}

# results LOG [TEST]: prints "PASSED FAILED SKIPPED", the counts of single tests in LOG, the output
# of make check: of all tests, or of TEST.
results() {
	awk -v test="${2-}" '
		test == "" || $2 == test { n[$1]++ }
		END {
			print n["PASS:"] + n["XFAIL:"], n["FAIL:"] + n["ERROR:"] + n["XPASS:"], \
				n["SKIP:"] + 0
		}
	' "$1"
}

# run_again TEST: runs one test again, in the current directory.
run_again() {
	make check TESTS="$1"
}

# check_quietly MAKE_ARGUMENTS...: runs make check in the current directory, several tests at a
# time, shows what failed and settles it. A make that fails and names no test is one failure.
check_quietly() {
	rm -f test-suite.log
	SLUICE_TEST_TIMES=$PWD/check.times
	export SLUICE_TEST_TIMES
	: >"$SLUICE_TEST_TIMES"
	# -O: what a test prints comes in one piece.
	make -k -O -j"$(test_jobs)" check "$@" >check.log 2>&1
	check_status=$?
	if [ "$check_status" -ne 0 ]; then
		grep -E '^(FAIL|ERROR|XPASS):' check.log || tail -n 40 check.log
	fi
	settle
	case $check_status,$tests_failed in
	[!0]*,0) grep -q -E '^(FAIL|ERROR|XPASS):' check.log || tests_failed=1 ;;
	esac
}

# settle: sets tests_passed, tests_failed and tests_skipped, and says which scripts failed twice or
# only once. Call it after `make -k check >check.log` in the current directory.
#
# On a machine that others use too, a test may get no processor for any length of time. So a script
# that failed runs again, alone; if it passes then, it is called unsteady and counts as passed. A
# script does not run again if it found corruption or a race, died, or ran out of time. If more than
# five scripts failed, none runs again.
deadly='Sanitizer:|runtime error:|HANG|Bail out|[Cc]orrupt|CORRUPT|sluice: fatal'
deadly="$deadly|status (124|13[0-9])"
settle() {
	# shellcheck disable=SC2046
	set -- $(results check.log)
	tests_passed=$1 tests_failed=$2 tests_skipped=$3
	[ $((tests_passed + tests_failed)) -gt 0 ] || tests_failed=1
	bad=$(sed -n -E 's/^(FAIL|ERROR|XPASS): ([^ ]*).*/\2/p' check.log | sort -u)
	# shellcheck disable=SC2086
	set -- $bad
	[ $# -gt 0 ] && [ $# -le 5 ] || return
	for name; do
		stem=${name%.*}
		[ -f "$stem.log" ] || continue
		if grep -q -E "$deadly" "$stem.log"; then
			say "$name is not run again: it did not only fail, see $stem.log"
			continue
		fi
		cp "$stem.log" "$stem.first.log"
		run_again "$name" >"$stem.again.log" 2>&1 || {
			say "$name failed twice"
			continue
		}
		# shellcheck disable=SC2046
		set -- $(results check.log "$name") $(results "$stem.again.log" "$name")
		tests_passed=$((tests_passed - $1 + $4))
		tests_failed=$((tests_failed - $2 + $5))
		tests_skipped=$((tests_skipped - $3 + $6))
		say "unsteady: $name failed, and passed when run again alone; see $stem.first.log"
	done
}

if [ -f "$top/config.status" ]; then
	builddir=$top
else
	builddir=$top/build
fi
