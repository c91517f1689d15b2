# shellcheck shell=sh
# SPDX-License-Identifier: BSD-2-Clause
#
# For the tests of the models in t/model: sourced after tap.sh. A test says
#
#	model NAME                  t/model/NAME.pml is what the next lines are about
#	verified LABEL [-DKIND]     the model (of that kind) holds: its whole state space was
#	                            searched without an error, and each statement was reached
#	caught TWIN LABEL           the model broken by -DTWIN fails an assertion or is stuck
#
# and is a SKIP where spin or gcc is not installed.

need spin
need gcc
tmpdir

model() {
	model_name=$1
	model_file=$srcdir/t/model/$1.pml
	[ -f "$model_file" ] || bail_out "no model $model_file"
}

# spin_run DIR CC_FLAGS [-DTWIN]: sets spin_out, all that spin, gcc and the verifier said.
spin_run() {
	spin_dir=$TMP/$1
	spin_flags=$2
	shift 2
	mkdir -p "$spin_dir"
	# shellcheck disable=SC2086
	spin_out=$(cd "$spin_dir" &&
		spin -a "$@" "$model_file" 2>&1 &&
		gcc $spin_flags -w -DSAFETY -DCOLLAPSE -DMEMLIM=1024 -o pan pan.c 2>&1 &&
		./pan -m100000 2>&1)
}

spin_states() {
	printf '%s\n' "$spin_out" | sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p'
}

verified() {
	spin_label=$1
	shift
	spin_run "$model_name$*" -O2 "$@"
	spin_n=$(spin_states)
	spin_bad=$(printf '%s\n' "$spin_out" | grep -E -e 'errors: [1-9]' \
		-e '[1-9][0-9]* of [0-9]+ states' \
		-e '[Ee]rror: ' -e 'max search depth too small' -e 'Search not completed' \
		-e 'out of memory' \
		-e 'assertion violated \(' -e 'invalid end state \(')
	case $spin_out in
	*"errors: 0"*) ;;
	*) spin_bad="$spin_bad
no result" ;;
	esac
	case $spin_n in
	"" | 0) spin_bad="$spin_bad
no states" ;;
	esac
	if [ -n "$spin_bad" ]; then
		diag "$spin_out"
	fi
	is "$spin_bad" "" "$spin_label"
	diag "$model_name: $spin_n states"
}

caught() {
	spin_run "$model_name-$1" -O1 "-D$1"
	# Makes sure that a twin that is not one, or does not compile, is no success.
	grep -q -E "^#if.*$1" "$model_file" || spin_out="$model_file has no twin $1"
	if printf '%s\n' "$spin_out" |
		grep -q -E '^pan:[0-9]*: (assertion violated|invalid end state)'; then
		ok 0 "$2"
		diag "$1: $(printf '%s\n' "$spin_out" | grep -E '^pan:[0-9]*: ' | head -n 1)"
	else
		ok 1 "$2"
		diag "$spin_out"
	fi
}
