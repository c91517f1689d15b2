# shellcheck shell=bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Completion for bash of the commands of Sluice: their options, as --help names them, and files. For
# sluice-run, which takes a program, also the programs and the program's own arguments.

_sluice()
{
	local cur=${COMP_WORDS[COMP_CWORD]} i options

	if [[ $1 == *sluice-run ]]; then
		for ((i = 1; i < COMP_CWORD; i++)); do
			if [[ ${COMP_WORDS[i]} != -* ]] &&
				declare -F _command_offset >/dev/null; then
				_command_offset "$i"
				return
			fi
		done
	fi
	case $cur in
	-*)
		options=$("$1" --help 2>/dev/null | grep -oE -- '(^|[ ,[])--[a-z][a-z-]*' |
			tr -d ' ,[')
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		;;
	*)
		if [[ $1 == *sluice-run ]]; then
			mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		fi
		;;
	esac
}

complete -o filenames -F _sluice sluice-bench sluice-ctl sluice-latency sluice-pressure \
	sluice-prof sluice-run sluice-stat sluice-top
