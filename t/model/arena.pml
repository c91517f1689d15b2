/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The arena (src/heap/arena.c): one slot, whose chunk has two blocks and comes and goes; two
 * threads that take objects and free them, also each other's; a fork that begins, ends and sweeps.
 * Up to two objects share a block.
 *
 * The word of the slot (map) and the words of its blocks change by CAS, here one step each. The
 * base is stored and loaded separately. The kernel hands out two addresses in any order, and each
 * again as soon as it is unmapped. The only memory order in the model is between the store of "no
 * fork" and the CAS that leaves a chunk empty: each is followed by a fence and a load of the other
 * word, so the steps have one order.
 *
 * Checked: a live object lies in mapped memory, where it was handed out, and no other object lives
 * there; one thread frees an object; a block in use is taken; a chunk is mapped once and unmapped
 * once; at the end nothing is mapped.
 *
 * Broken twins, each of which must be caught:
 *   BASE_EARLY      the address is read before the CAS that takes a place
 *   DEAD_SHARED     an object is put into a block without live objects
 *   WORD_KEPT       the word of a block is cleared after the block was released
 *   UNMAP_NO_CAS    the thread that empties the chunk unmaps it without the step that makes it BUSY
 *   FREE_TWO_STEPS  the start bit is tested in one step and cleared in another
 *   START_LATE      the start bit is cleared after the place was released
 *   KEPT_NO_CHECK   a thread that keeps a chunk because of a fork does not test again for the fork
 *   SWEEP_EARLY     the sweep comes before the store that the fork is over
 *   SWEEP_NO_TAKE   the sweep purges free blocks without taking them
 */

#define BLOCKS 2
#define PLACES 2 /* of a block */
#define NONE 9

/* map */
mtype = { GONE, BUSY, OPEN };
mtype map = GONE;
bool taken[BLOCKS];
byte base = NONE; /* an address of the kernel's: 0 or 1 */

/* A block's word. */
byte live[BLOCKS];
byte end[BLOCKS];

bool start[4]; /* of the slot: block * PLACES + place */

bool forking;

/* Ghost state, for the assertions. */
bool mapped[2];
byte who[8];       /* address * 4 + place in the slot: objects that live there */
byte shelf = NONE; /* an object that the program has: address * 4 + place */
byte freed;        /* tries to free the first object */
byte ended;

#define EMPTY (!taken[0] && !taken[1])

/* The CAS of release_blocks. */
inline let_go_step(b, may_stay)
{
	atomic {
		assert(map == OPEN && taken[b]);
#ifndef WORD_KEPT
		assert(live[b] == 0 && end[b] == 0);
#endif
		taken[b] = false;
		unmaps = EMPTY && !may_stay;
		kept = EMPTY && may_stay;
#ifndef UNMAP_NO_CAS
		if
		:: unmaps -> map = BUSY
		:: else
		fi
#endif
	}
}

inline let_go_block(b)
{
	stays = forking;
	let_go_step(b, stays);
#ifndef KEPT_NO_CHECK
	if
	:: kept && !forking ->
		atomic {
			if
			:: map == OPEN && EMPTY -> map = BUSY; unmaps = true
			:: else
			fi
		}
	:: else
	fi;
#endif
	if
	:: unmaps -> unmap()
	:: else
	fi;
	kept = false;
	stays = false
}

inline unmap()
{
#ifdef UNMAP_NO_CAS
	map = BUSY;
#endif
	at = base;
	base = NONE;
	atomic {
		assert(at != NONE && mapped[at]);
		assert(who[at * 4] + who[at * 4 + 1] + who[at * 4 + 2] + who[at * 4 + 3] == 0);
		mapped[at] = false
	};
	map = GONE;
	at = NONE;
	unmaps = false
}

/* The place is the caller's. */
inline hand_out()
{
#ifndef BASE_EARLY
	at = base;
#endif
	atomic {
		assert(at != NONE && mapped[at]);
		who[at * 4 + place]++;
		assert(who[at * 4 + place] == 1 && !start[place]);
		start[place] = true;
		mine = at * 4 + place;
		at = NONE
	}
}

/* arena_alloc; in this model it gives up where it would try again. */
inline alloc()
{
#ifdef BASE_EARLY
	at = base;
#endif
	place = NONE;
	if
	:: atomic { map == GONE -> map = BUSY; place = 8 }; /* claim */
		if
		:: atomic { !mapped[0] -> mapped[0] = true; at = 0 }
		:: atomic { !mapped[1] -> mapped[1] = true; at = 1 }
		fi;
		base = at;
#ifndef BASE_EARLY
		at = NONE;
#endif
		atomic {
			assert(map == BUSY && EMPTY);
			map = OPEN;
			taken[0] = true
		};
		atomic {
			assert(live[0] == 0);
			live[0] = 1;
			end[0] = 1;
			place = 0
		}
	/* share_block */
#ifdef DEAD_SHARED
	:: atomic { map == OPEN && end[0] > 0 && end[0] < PLACES ->
#else
	:: atomic { live[0] > 0 && end[0] < PLACES ->
#endif
		place = end[0];
		live[0]++;
		end[0]++
	   }
	:: atomic { live[1] > 0 && end[1] < PLACES ->
		place = PLACES + end[1];
		live[1]++;
		end[1]++
	   }
	/* take_blocks, fill_block */
	:: atomic { map == OPEN && !taken[0] -> taken[0] = true };
		atomic { assert(live[0] == 0 && end[0] == 0); live[0] = 1; end[0] = 1; place = 0 }
	:: atomic { map == OPEN && !taken[1] -> taken[1] = true };
		atomic { assert(live[1] == 0 && end[1] == 0); live[1] = 1; end[1] = 1;
			 place = PLACES }
	:: true -> skip
	fi;
	if
	:: place != NONE -> hand_out()
	:: else -> at = NONE
	fi
}

/* arena_free */
inline free_object(o)
{
	place = o % 4;
	got = false;
#ifdef FREE_TWO_STEPS
	if
	:: start[place] -> got = true
	:: else
	fi;
#elif defined(START_LATE)
	got = true;
#else
	atomic { got = start[place]; start[place] = false };
#endif
	if
	:: got ->
#ifdef FREE_TWO_STEPS
		start[place] = false;
#endif
		atomic {
			who[o]--;
			assert(who[o] == 0)
		};
		atomic { /* the CAS of release_object */
			assert(live[place / PLACES] > 0 && taken[place / PLACES]);
			live[place / PLACES]--;
			got = live[place / PLACES] == 0;
#if !defined(WORD_KEPT) && !defined(DEAD_SHARED)
			if
			:: got -> end[place / PLACES] = 0
			:: else
			fi
#endif
		};
#ifdef DEAD_SHARED
		if
		:: got -> end[place / PLACES] = 0
		:: else
		fi;
#endif
		if
		:: got -> let_go_block(place / PLACES)
		:: else
		fi;
#ifdef WORD_KEPT
		if
		:: got -> end[place / PLACES] = 0
		:: else
		fi;
#endif
#ifdef START_LATE
		start[place] = false;
#endif
	:: else
	fi;
	got = false
}

proctype thread(byte rounds)
{
	byte mine = NONE;
	byte old = NONE;
	byte at = NONE;
	byte place = NONE;
	bool unmaps;
	bool kept;
	bool stays;
	bool got;

	/* The program frees an object twice, by two threads at the same time: for one of them it is
	 * no live object. */
	free_object(0);
	freed++;
	freed == 2;
	do
	:: rounds > 0 ->
		alloc();
		/* It goes to the shelf and the object there is freed, or it is freed itself. */
		if
		:: atomic { mine != NONE -> old = shelf; shelf = mine; mine = NONE }
		:: atomic { mine != NONE -> old = mine; mine = NONE }
		:: mine == NONE
		fi;
		if
		:: old != NONE -> free_object(old)
		:: else
		fi;
		old = NONE;
		rounds--
	:: rounds == 0 -> break
	od;
	atomic { old = shelf; shelf = NONE };
	if
	:: old != NONE -> free_object(old)
	:: else
	fi;
	ended++
}

proctype forker()
{
	byte at = NONE;
	bool unmaps;
	bool kept;
	bool purges[BLOCKS];

	forking = true;
	/* arena_fork_prepare makes a chunk as arena_alloc does, without an object in it. */
	if
	:: atomic { map == GONE -> map = BUSY };
		if
		:: atomic { !mapped[0] -> mapped[0] = true; at = 0 }
		:: atomic { !mapped[1] -> mapped[1] = true; at = 1 }
		fi;
		base = at;
		at = NONE;
		atomic { assert(map == BUSY && EMPTY); map = OPEN }
	:: true
	fi;
#ifndef SWEEP_EARLY
	forking = false;
#endif
	/* sweep_chunk */
	if
	:: atomic { map == OPEN && EMPTY -> map = BUSY }; unmap()
#ifdef SWEEP_NO_TAKE
	:: atomic { map == OPEN && !EMPTY && !taken[1] -> purges[1] = true }
#else
	:: atomic { map == OPEN && !EMPTY && !taken[1] -> taken[1] = true; purges[1] = true }
#endif
	:: atomic { !(map == OPEN && (EMPTY || !taken[1])) -> skip }
	fi;
	if
	:: purges[1] ->
		atomic {
			assert(base != NONE && mapped[base]);
			assert(who[base * 4 + 2] == 0 && who[base * 4 + 3] == 0)
		};
#ifndef SWEEP_NO_TAKE
		let_go_step(1, false);
		if
		:: unmaps -> unmap()
		:: else
		fi
#endif
	:: else
	fi;
#ifdef SWEEP_EARLY
	forking = false;
#endif
	ended++
}

init {
	/* One object is there. */
	atomic {
		mapped[0] = true;
		base = 0;
		map = OPEN;
		taken[0] = true;
		live[0] = 1;
		end[0] = 1;
		start[0] = true;
		who[0] = 1;
		run thread(2);
		run thread(2);
		run forker()
	};
	ended == 3;
	assert(shelf == NONE);
	assert(map == GONE && base == NONE && !mapped[0] && !mapped[1] && EMPTY);
	assert(live[0] + live[1] + end[0] + end[1] == 0);
	assert(!start[0] && !start[1] && !start[2] && !start[3])
}
