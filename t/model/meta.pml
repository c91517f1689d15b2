/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of the library itself (src/page/meta.c): threads that allocate pieces from chunks, map the
 * next chunk when they reach the end of one, and take mappings of their own when they are late.
 *
 * A chunk has ROOM pieces. The kernel refuses at most one mapping of a chunk, until there is no
 * memory. Steps are in the order of the code, one at a time; what a release and an acquire do is
 * that a chunk's fields are written before it is put on the list.
 *
 * Checked: no piece has two owners; each chunk that a thread meets is complete; nobody waits; at
 * the end each chunk is on the list that is walked, from `current` or the one after it, or
 * unmapped.
 *
 * Broken twins, each of which must be caught:
 *   USED_STORED    a place is taken by a load and a store
 *   NEXT_STORED    the next chunk is put on the list by a look and a store
 *   CURRENT_STORED `current` moves on by a store
 *   FILLED_LATE    a chunk's fields are written when it is on the list
 *   LOSER_FORGETS  who finds another chunk on the list does not unmap its own
 */

#define THREADS 3
#define PIECES 2
#define ROOM 1
#define STRIDE 3

/* Chunk 0 is none, 1 is the first. One thread has a piece less, except where it takes one more for
 * `current` to move back too far. */
#ifdef CURRENT_STORED
#define CHUNKS 7
#define LESS 0
#else
#define CHUNKS 6
#define LESS (i == 0)
#endif

#define DUE (at == ROOM || at % STRIDE == STRIDE - 1)

byte current = 1;
byte next[CHUNKS];
byte older[CHUNKS];
byte used[CHUNKS];
bool complete[CHUNKS];

/* Ghost state. */
byte mapped = 1;
bool refused;
bool unmapped[CHUNKS];
bool taken[CHUNKS]; /* of ROOM pieces the only one */
byte ended;

inline take_place()
{
#ifdef USED_STORED
	at = used[c];
	used[c] = at + 1
#else
	atomic { at = used[c]; used[c] = at + 1 }
#endif
}

inline fill(f)
{
	older[f] = c;
	complete[f] = true
}

inline append()
{
	atomic {
		if
		:: mapped + 1 < CHUNKS -> mapped++; fresh = mapped
		:: !refused || mapped + 1 == CHUNKS -> refused = true
		fi;
#ifndef FILLED_LATE
		fill(fresh)
#endif
	};
#ifdef NEXT_STORED
	won = next[c] == 0;
	if
	:: won && fresh -> next[c] = fresh
	:: else
	fi;
#else
	atomic {
		won = next[c] == 0;
		if
		:: won && fresh -> next[c] = fresh
		:: else
		fi
	};
#endif
#ifdef FILLED_LATE
	fill(fresh);
#endif
	atomic {
#ifndef LOSER_FORGETS
		unmapped[fresh] = !won;
#endif
		fresh = 0;
		won = false
	}
}

inline piece()
{
	do
	:: atomic { tries == 2 -> break } /* a mapping of its own */
	:: atomic { tries < 2 -> c = current; assert(complete[c]) };
		take_place();
		if
		:: atomic { DUE && next[c] == 0 }; append()
		:: atomic { !DUE || next[c] }
		fi;
		atomic {
			if
			:: at < ROOM -> assert(!taken[c]); taken[c] = true; break
			:: else
			fi;
			n = next[c];
			if
			:: n == 0 -> break /* the same */
			:: else
			fi
		};
#ifdef CURRENT_STORED
		current = n;
		tries++
#else
		atomic {
			if
			:: current == c -> current = n
			:: else
			fi;
			tries++
		}
#endif
	od;
	atomic { left--; tries = 0; c = 0; at = 0; n = 0 }
}

proctype thread(byte left)
{
	byte c, at, n, fresh, tries;
	bool won;

	do
	:: left -> piece()
	:: !left -> break
	od;
	ended++
}

init {
	byte i, c;
	bool seen[CHUNKS];

	atomic {
		complete[1] = true;
		i = 0;
		do
		:: i < THREADS -> run thread(PIECES - LESS); i++
		:: i == THREADS -> break
		od
	};
	atomic {
		ended == THREADS;
		c = current;
		if
		:: next[c] -> c = next[c]
		:: else
		fi;
		do
		:: c -> seen[c] = true; c = older[c]
		:: !c -> break
		od;
		i = 1;
		do
		:: i <= mapped -> assert(seen[i] != unmapped[i]); assert(!taken[i] || seen[i]); i++
		:: i > mapped -> break
		od
	}
}
