/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cache of mappings (src/page/mapcache.c): two threads that free memory and take it again, with
 * neighbours that are joined and rests that are put back; a tick, which marks what is kept OLD,
 * unmaps what was OLD, and rests when nothing is kept; the kernel, which maps what was unmapped
 * again at the same address.
 *
 * Memory is two pages, A and B, side by side. A slot's word is 0, or the pages it has and OLD.
 * Stores to a page and to `live` go through a buffer of their thread. A release CAS waits for the
 * buffer, as does a fence; an acquire CAS and a relaxed one do not.
 *
 * Checked: no page has two owners (threads, slots, the kernel), and none is lost; the next user of
 * a page sees what the last one wrote; when all have ended and something is kept, `live` is set; no
 * more is kept than may be when a free has returned and no other is under way.
 *
 * Broken twins, each of which must be caught:
 *   BLIND_TAKE    a slot is emptied without comparing the word that was seen
 *   REST_FIRST    the rest of a take is put back before the take's CAS
 *   JOIN_READ     a neighbour that is joined is only read, and not taken
 *   RELAXED_PUT   the CAS that fills a slot is not a release
 *   NO_FENCE_PUT  no fence between the filling of a slot and the load of `live`
 *   NO_FENCE_TICK no fence between the store to `live` and the look at the slots
 *   NO_LOOK       a tick rests without looking at the slots again
 *   NO_CHECK      a free does not compare with the bound again after its put
 */

#define A 1
#define B 2
#define OLD 4
#define PAGES 3

#define SLOTS 2

byte slot[SLOTS];
byte most = 2;      /* pages that may be kept; falls to 1 */
bool live;
byte data[2];       /* of page A and B: who wrote it last, as memory has it */

/* Ghost state. */
byte owner[2];      /* 0: the kernel, 1 and 2: a thread, 3: kept */
byte truth[2];      /* who wrote it last */
byte freeing;
byte ended;

/* Of a thread and of the tick: pages that are written late, and `live`. */
mtype = { DATA_A, DATA_B, LIVE };
chan buffer[3] = [2] of { mtype, byte };

inline drain_one(b)
{
	if
	:: buffer[b]?DATA_A, value -> data[0] = value
	:: buffer[b]?DATA_B, value -> data[1] = value
	:: buffer[b]?LIVE, value -> live = value
	fi;
	value = 0
}

active proctype memory()
{
	byte value;

	do
	:: atomic { nempty(buffer[0]) -> drain_one(0) }
	:: atomic { nempty(buffer[1]) -> drain_one(1) }
	:: atomic { nempty(buffer[2]) -> drain_one(2) }
	:: atomic {
		ended == 3 && empty(buffer[0]) && empty(buffer[1]) && empty(buffer[2]) -> break
	}
	od
}

#define KEPT ((slot[0] & PAGES) | (slot[1] & PAGES))
#define COUNT(w) (((w) & A) + (((w) & B) >> 1))
#define KEPT_PAGES (COUNT(slot[0]) + COUNT(slot[1]))

/* Ghost: the pages change hands; each has been `from`'s. */
inline hand_over(pages, from, to)
{
	assert(!((pages) & A) || owner[0] == from);
	assert(!((pages) & B) || owner[1] == from);
	if
	:: (pages) & A -> owner[0] = to
	:: else
	fi;
	if
	:: (pages) & B -> owner[1] = to
	:: else
	fi
}

/* slot_take: a CAS. got: the pages, or 0. */
inline take(i, seen, to)
{
	atomic {
		if
#ifdef BLIND_TAKE
		:: true ->
#else
		:: slot[i] == seen ->
#endif
			slot[i] = 0;
			got = seen & PAGES;
			hand_over(got, 3, to)
		:: slot[i] != seen -> got = 0
		fi
	}
}

#ifdef RELAXED_PUT
#define ARRIVED(me) true
#else
#define ARRIVED(me) empty(buffer[me])
#endif

/* Without the fence the load of `live` may come before the CAS. */
inline note_live(me)
{
#ifndef NO_FENCE_PUT
	empty(buffer[me]);
	early = live;
#endif
	if
	:: !early -> buffer[me]!LIVE, 1
	:: early
	fi
}

/* put: an empty slot by a release CAS, a fence, a look at `live`. There is an empty slot, because
 * the other page, at most, is kept. */
inline put(me, word)
{
#ifdef NO_FENCE_PUT
	early = live;
#endif
	atomic {
		ARRIVED(me) ->
		to = slot[0] != 0;
		assert(slot[to] == 0);
		slot[to] = word;
		hand_over((word) & PAGES, me + 1, 3)
	};
	note_live(me)
}

/* The next user sees what the last one wrote, and writes something else. The kernel's pages are
 * zero, and nothing is on its way to them. */
inline use(me, pages)
{
	atomic {
		assert(!((pages) & A) || data[0] == truth[0]);
		assert(!((pages) & B) || data[1] == truth[1]);
		if
		:: (pages) & A -> truth[0] = me + 1; buffer[me]!DATA_A, me + 1
		:: else
		fi
	};
	atomic {
		if
		:: (pages) & B -> truth[1] = me + 1; buffer[me]!DATA_B, me + 1
		:: else
		fi
	}
}

/* munmap and mmap order all that went before. */
inline map(me, page, which)
{
	atomic {
		empty(buffer[me]) && owner[page] == 0 ->
		owner[page] = me + 1;
		data[page] = 0;
		truth[page] = 0;
		have = have | which
	}
}

inline unmap(me, pages)
{
	atomic {
		if
		:: pages -> empty(buffer[me]); hand_over(pages, me + 1, 0)
		:: else
		fi
	}
}

/* A free of all that the thread has, which is one run of pages. */
inline free_all(me)
{
	freeing++;
	word = have;
	have = 0;
	i = 0;
	do
	:: i < SLOTS ->
		seen = slot[i];
		if
		:: seen && !(seen & OLD) && !(word & PAGES & seen) ->
#ifdef JOIN_READ
			word = word | seen
#else
			take(i, seen, me + 1);
			word = word | got
#endif
		:: else
		fi;
		i++
	:: i == SLOTS -> break
	od;
	put(me, word);
#ifndef NO_CHECK
	/* A loop in the code; each round takes a slot's pages. */
	i = 0;
	do
	:: i < SLOTS && KEPT_PAGES > most ->
		seen = slot[i];
		if
		:: seen -> take(i, seen, me + 1); unmap(me, got)
		:: else
		fi;
		i++
	:: i == SLOTS && KEPT_PAGES > most -> i = 0
	:: atomic { KEPT_PAGES <= most -> freeing--; break }
	od
#else
	atomic {
		freeing--;
		assert(freeing || KEPT_PAGES <= most)
	}
#endif
}

/* A page out of a slot; the other one, if there is one, is put back. */
inline take_one(me)
{
	i = 0;
	do
	:: i < SLOTS ->
		seen = slot[i];
		if
		:: seen ->
			rest = 0;
			if
			:: (seen & PAGES) == (A | B) -> rest = A | (seen & OLD)
			:: (seen & PAGES) == (A | B) -> rest = B | (seen & OLD)
			:: else
			fi;
#ifdef REST_FIRST
			if
			:: rest -> put(me, rest)
			:: else
			fi;
#endif
			take(i, seen, me + 1);
			if
			:: got ->
				have = got & (PAGES - (rest & PAGES));
#ifndef REST_FIRST
				if
				:: rest -> put(me, rest)
				:: else
				fi;
#endif
				use(me, have);
				break
			:: else
			fi
		:: else
		fi;
		i++
	:: i == SLOTS -> break
	od
}

proctype thread(byte me)
{
	byte i, seen, got, word, rest;
	byte have;
	bool early, to;
	byte turns = 2 - me;

	do
	:: turns ->
		turns--;
		take_one(me);
		if
		:: !have ->
			if
			:: map(me, 0, A)
			:: map(me, 1, B)
			:: true
			fi;
			use(me, have)
		:: else
		fi;
		if
		:: have -> free_all(me)
		:: else
		fi
	:: !turns -> break
	od;
	ended++
}

inline unmap_kept(pages)
{
	atomic {
		if
		:: pages -> hand_over(pages, 3, 0)
		:: else
		fi
	}
}

/* One tick of the process: the next one comes decay_ms later. The bound has fallen. */
active proctype tick()
{
	byte i, seen, got;
	byte turns = 1;

	do
	:: turns ->
		turns--;
		i = 0;
		do
		:: i < SLOTS ->
			seen = slot[i];
			if
			:: seen & OLD -> take(i, seen, 3); unmap_kept(got)
			:: seen && !(seen & OLD) ->
				atomic {
					if
					:: slot[i] == seen -> slot[i] = seen | OLD
					:: else
					fi
				}
			:: else
			fi;
			i++
		:: i == SLOTS -> break
		od;
		/* rest_of_ticks */
		buffer[2]!LIVE, 0;
#ifndef NO_FENCE_TICK
		empty(buffer[2]);
#endif
#ifndef NO_LOOK
		if
		:: slot[0] -> buffer[2]!LIVE, 1
		:: !slot[0] ->
			if
			:: slot[1] -> buffer[2]!LIVE, 1
			:: !slot[1]
			fi
		fi
#endif
	:: !turns -> break
	od;
	ended++
}

init {
	atomic {
		/* An earlier tick has marked what was kept. */
		if
		:: true
		:: slot[0] = A | OLD; owner[0] = 3; live = true
		fi;
		run thread(0);
		run thread(1)
	};
	most = 1
}

/* What a thread has at the end it has freed. */
active proctype over()
{
	atomic {
		ended == 3 && empty(buffer[0]) && empty(buffer[1]) && empty(buffer[2]) ->
		assert(!KEPT || live);
		assert(owner[0] == 0 || (owner[0] == 3 && (KEPT & A)));
		assert(owner[1] == 0 || (owner[1] == 3 && (KEPT & B)));
		assert(!(slot[0] & slot[1] & PAGES))
	}
}
