# SPDX-License-Identifier: BSD-2-Clause
#
# Prints the command lines that a document in Markdown shows: LINE <tab> BLOCK <tab> COMMAND, where
# BLOCK is the number of the code block, or 0 for code within a text. A command is
#
#	- each line of an indented block, and of a fenced one that begins with ```sh, without the
#	  remark behind it ("  # ..."); a line that ends with a backslash goes on in the next one
#	- `code` within a text that has two words or more and begins like a command: with a name in
#	  lower case or a path, also after settings of variables
#	- `code` within a text that is the path of an executable file (variable `programs`, names
#	  with spaces between and around them)
#	- each `code` in a column of a table that is headed "command"
#
# Code in a column that is headed "test" is a label. A fenced block that begins with ```text is no
# command; one that says neither is an error: LINE <tab> 0 <tab> ``` (t/meta/commands.sh runs it,
# and fails).

function command(at, block, text) {
	sub(/[ \t]+#[ \t].*$/, "", text)
	gsub(/[ \t]+/, " ", text)
	sub(/^ /, "", text)
	sub(/ $/, "", text)
	if (text != "")
		print at "\t" block "\t" text
}

# block_line TEXT: a line of a code block; joins lines that end with a backslash.
function block_line(text) {
	if (joined == "")
		joined_at = FNR
	if (text ~ /\\$/) {
		joined = joined substr(text, 1, length(text) - 1)
		return
	}
	command(joined_at, blocks, joined text)
	joined = ""
}

function is_command(text, rest, first) {
	rest = text
	while (match(rest, /^[A-Z_][A-Z0-9_]*=("[^"]*"|[^ "]*) +/))
		rest = substr(rest, RLENGTH + 1)
	first = rest
	sub(/ .*/, "", first)
	if (text !~ / /)
		return text ~ /\// && index(programs, " " first " ") > 0
	return first == "PROGRAM" || first ~ /^(\.\.?\/)?[a-z.]*[a-z][a-zA-Z0-9_.\/+-]*$/
}

# spans AT TEXT ALL: the code in a text; every one of it if ALL.
function spans(at, text, all, code) {
	while (match(text, /`[^`]+`/)) {
		code = substr(text, RSTART + 1, RLENGTH - 2)
		text = substr(text, RSTART + RLENGTH)
		if (all || is_command(code))
			command(at, 0, code)
	}
}

function end_paragraph() {
	if (paragraph != "")
		spans(paragraph_at, paragraph, 0)
	paragraph = ""
}

/^ *```/ {
	end_paragraph()
	if (fence) {
		fence = ""
	} else {
		fence = $0
		sub(/^ *```/, "", fence)
		if (fence == "sh") {
			blocks++
		} else if (fence != "text") {
			print FNR "\t0\t```" fence
			fence = "text"
		}
	}
	next
}
fence == "sh" { block_line($0) }
fence { next }

/^    / && (before == "" || in_block) {
	if (!in_block)
		blocks++
	in_block = 1
	block_line($0)
	next
}
{ in_block = 0; before = $0 }
/^$/ { end_paragraph(); header = 0; next }

/^\|/ {
	end_paragraph()
	n = split($0, cell, "|")
	if (!header) {
		header = 1
		delete head
		for (i = 1; i <= n; i++) {
			head[i] = cell[i]
			gsub(/^ +| +$/, "", head[i])
		}
	}
	for (i = 1; i <= n; i++)
		if (head[i] != "test")
			spans(FNR, cell[i], head[i] == "command")
	next
}
{
	header = 0
	if (paragraph == "")
		paragraph_at = FNR
	paragraph = paragraph " " $0
}
END { end_paragraph() }
