# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Completion for bash of the commands of Sluice: their options, as --help names them, and files. For
# sluice-run, which takes a program, also the programs and the program's own arguments; for it and
# sluice-ctl the options of the library.

# _sluice_settings RUN CUR END: the options of the library, as RUN --help names them, then END
_sluice_settings()
{
	local names

	names=$("$1" --help 2>/dev/null | sed -n 's/^  \([a-z_]*\):.*/\1/p')
	mapfile -t COMPREPLY < <(compgen -S "$3" -W "$names" -- "$2")
	[[ -z $3 ]] || compopt -o nospace 2>/dev/null
}

# _sluice_program: whether the word at the cursor is behind the program of sluice-run; sets at
_sluice_program()
{
	for ((at = 1; at < COMP_CWORD; at++)); do
		if [[ ${COMP_WORDS[at]} == -o ]]; then
			((at++))
			# bash takes each colon for a word
			while [[ ${COMP_WORDS[at + 1]} == : ]]; do
				((at += 2))
			done
		elif [[ ${COMP_WORDS[at]} != -* ]]; then
			return 0
		fi
	done
	return 1
}

_sluice()
{
	local cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} at options

	if [[ $1 == *sluice-run ]] && _sluice_program; then
		! declare -F _command_offset >/dev/null || _command_offset "$at"
		return
	fi
	case $1:$before:$cur in
	*sluice-run:-o:*)
		_sluice_settings "$1" "$cur" :
		;;
	*sluice-ctl:[gs]et:*)
		_sluice_settings "${1%ctl}run" "$cur" ""
		;;
	*:*:-*)
		options=$("$1" --help 2>/dev/null | grep -oE -- '(^|[ ,[])--[a-z][a-z-]*' |
			tr -d ' ,[')
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		;;
	*sluice-ctl:*)
		options="drain purge stats get set top profile"
		[[ $before != profile ]] || options="start stop dump"
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		[[ $before != dump ]] || mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	*sluice-run:*)
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	esac
}

complete -o filenames -F _sluice sluice-bench sluice-ctl sluice-latency sluice-pressure \
	sluice-prof sluice-run sluice-stat sluice-top
