/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Holes (src/heap/holes.c): one slab with a unit that two objects lie on and a unit with one
 * object; two threads that take objects out of it and free them, and a drainer that gives units
 * back to the kernel. The slab is in the pool of its class, or one thread holds it. That it has one
 * owner at a time is checked by t/model/slab.pml.
 *
 * A unit is carved, purging, or a hole. A purge is two steps of the drainer, the call and its end;
 * between them the memory begins to read as zero. Or the kernel refuses, and the memory may be gone
 * all the same. All decisions are made under the pool's lock or by the thread that holds the slab,
 * so the model needs no store buffers.
 *
 * Checked: a live object keeps what was written to it; an object is handed out once; the free list
 * leads to no object whose link was purged; a hole is carved only after its purge; no object is
 * lost.
 *
 * Broken twins, each of which must be caught:
 *   CARVED_WHILE_PURGED  the slab returns to the pool with its holes before the purge ends
 *   SCANNED_EARLY        the drainer determines the free objects before it takes the slab
 *   ONE_FREE_ENOUGH      a unit is purged when one object on it is free
 *   REMOTE_IS_FREE       objects on the remote list count as free, not as live
 *   LIST_KEPT            the objects of a hole stay on the free list
 *   REFUSED_KEPT         the free list is not rebuilt after the kernel refused
 *   OPENED_LOST          only the object asked for leaves a hole that is carved again
 */

#define OBJECTS 3
#define UNITS 2
#define UNIT(o) (o / 2) /* objects 0 and 1 lie on unit 0, object 2 on unit 1 */
#define ROUNDS 2
#define NONE 9

mtype = { CARVED, PURGING, IN_HOLE };
mtype unit[UNITS] = CARVED;

bool pooled = true; /* the slab is in its pool */
bool pool_lock;
bool listed[OBJECTS] = true; /* on the free list */
bool open[OBJECTS];          /* of a hole that was opened, not handed out yet */
bool remote[OBJECTS];        /* on the remote list */

/* Ghost state, for the assertions. */
byte live[OBJECTS];             /* how many threads have it */
bool link_gone[OBJECTS];        /* the memory of a listed object reads as zero */
bool written[OBJECTS];          /* it holds what its holder wrote */
byte ended;

inline lock_pool()
{
	atomic { !pool_lock -> pool_lock = true }
}

/* slab_collect_to: the freeing threads wrote the links. */
inline collect()
{
	o = 0;
	do
	:: o < OBJECTS ->
		if
		:: remote[o] -> remote[o] = false; listed[o] = true; link_gone[o] = false
		:: else
		fi;
		o++
	:: else -> break
	od
}

/* slab_pool_take, slab_pool_adopt, take_new: sets `got`. */
inline take_slab()
{
	lock_pool();
	atomic {
		got = pooled;
		if
		:: pooled -> pooled = false; collect()
		:: else
		fi
	};
	pool_lock = false
}

/* slab_pool_put */
inline put_slab()
{
	lock_pool();
	assert(!pooled);
	pooled = true;
	pool_lock = false
}

inline hand_out(x)
{
	assert(live[x] == 0 && !remote[x]);
	live[x]++;
	written[x] = false;
	mine[n] = x
}

/* open_hole: all objects of the unit may be carved then. */
inline carve(u)
{
	assert(unit[u] == IN_HOLE);
	unit[u] = CARVED;
	o = 0;
	do
	:: o < OBJECTS && UNIT(o) == u -> open[o] = true; o++
	:: o < OBJECTS && UNIT(o) != u -> o++
	:: o == OBJECTS -> break
	od
}

/* slab_take, of one object: the free list first, then what is open, then a hole. */
inline take_object()
{
	atomic {
		if
		:: listed[0] -> assert(!link_gone[0]); listed[0] = false; hand_out(0)
		:: listed[1] -> assert(!link_gone[1]); listed[1] = false; hand_out(1)
		:: listed[2] -> assert(!link_gone[2]); listed[2] = false; hand_out(2)
		:: else ->
			if
			:: open[1] -> open[1] = false; hand_out(1)
			:: else -> /* the first object of a hole is handed out as it is opened */
				if
				:: unit[0] == IN_HOLE ->
#ifdef OPENED_LOST
					unit[0] = CARVED;
#else
					carve(0);
					open[0] = false;
#endif
					hand_out(0)
				:: unit[0] != IN_HOLE && unit[1] == IN_HOLE ->
					carve(1);
					open[2] = false;
					hand_out(2)
				:: else
				fi
			fi
		fi
	}
}

/* The program writes to its object, and frees it. */
inline use_object()
{
	if
	:: mine[n] != NONE ->
		written[mine[n]] = true;
		/* slab_free_remote: the link takes the place of what was there. */
		atomic {
			assert(written[mine[n]] && live[mine[n]] == 1);
			written[mine[n]] = false;
			live[mine[n]]--;
			remote[mine[n]] = true;
			mine[n] = NONE
		};
		/* A thread that frees into an abandoned slab adopts it, and abandons it again. */
		take_slab();
		if
		:: got -> put_slab()
		:: else
		fi
	:: else
	fi
}

proctype thread()
{
	byte mine[2] = NONE;
	byte n;
	byte round;
	byte o;
	bool got;

	do
	:: round == ROUNDS -> break
	:: round < ROUNDS ->
		take_slab();
		if
		:: got ->
			n = 0;
			take_object();
			n = 1;
			if
			:: true -> take_object()
			:: true
			fi;
			put_slab()
		:: else
		fi;
		n = 0;
		use_object();
		n = 1;
		use_object();
		round++
	od;
	ended++
}

#ifdef REMOTE_IS_FREE
#define FREE(o) (listed[o] || open[o] || remote[o])
#else
#define FREE(o) (listed[o] || open[o])
#endif
#ifdef ONE_FREE_ENOUGH
#define MAY_PURGE0 (FREE(0) || FREE(1))
#else
#define MAY_PURGE0 (FREE(0) && FREE(1))
#endif

/* live_units: a hole is not purged again. */
inline look()
{
	atomic {
		may[0] = unit[0] == CARVED && MAY_PURGE0;
		may[1] = unit[1] == CARVED && FREE(2)
	}
}

/* The memory of a unit reads as zero: the contents of the objects on it are gone. */
inline gone(u)
{
	o = 0;
	do
	:: o < OBJECTS && UNIT(o) == u -> written[o] = false; link_gone[o] = true; o++
	:: o < OBJECTS && UNIT(o) != u -> o++
	:: o == OBJECTS -> break
	od
}

/* give_up: rebuilds the free list, without the objects in holes. */
inline relist(u)
{
	o = 0;
	do
	:: o < OBJECTS && UNIT(o) == u ->
		if
		:: unit[u] == IN_HOLE ->
#ifndef LIST_KEPT
			listed[o] = false;
#endif
			open[o] = false
		:: else ->
#ifndef REFUSED_KEPT
			link_gone[o] = false;
#endif
			listed[o] = true;
			open[o] = false
		fi;
		o++
	:: o < OBJECTS && UNIT(o) != u -> o++
	:: o == OBJECTS -> break
	od
}

/* One unit. */
inline punch(u)
{
	if
	:: may[u] ->
#ifdef CARVED_WHILE_PURGED
		atomic { unit[u] = IN_HOLE; relist(u) }
#else
		unit[u] = PURGING;
		if
		:: true -> atomic { gone(u); purged = true } /* somewhere in the call */
		:: true -> purged = false                    /* refused, and nothing is gone */
		fi;
		atomic { /* its end */
			if
			:: purged -> unit[u] = IN_HOLE
			:: true -> unit[u] = CARVED /* refused, maybe gone in part */
			fi;
			relist(u)
		}
#endif
	:: else
	fi
}

active proctype drainer()
{
	bool may[UNITS];
	bool purged;
	byte round;
	byte o;
	bool got;

	do
	:: round == ROUNDS -> break
	:: round < ROUNDS ->
#ifdef SCANNED_EARLY
		look();
#endif
		take_slab();
		if
		:: got ->
#ifndef SCANNED_EARLY
			look();
#endif
			punch(0);
			punch(1);
			put_slab()
#ifdef CARVED_WHILE_PURGED
			;
			if
			:: may[0] -> atomic { gone(0) }
			:: else
			fi;
			if
			:: may[1] -> atomic { gone(1) }
			:: else
			fi
#endif
		:: else
		fi;
		round++
	od;

	/* All came back: each object is in one place. */
	ended == 2;
	take_slab();
	assert(got);
	atomic {
		o = 0;
		do
		:: o < OBJECTS ->
			assert(live[o] == 0 && !remote[o]);
			assert(unit[UNIT(o)] != PURGING);
			assert(listed[o] + open[o] + (unit[UNIT(o)] == IN_HOLE) == 1);
			o++
		:: o == OBJECTS -> break
		od
	}
}

init {
	atomic { run thread(); run thread() }
}
