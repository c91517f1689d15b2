/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state word of a slab (src/heap/slab.h): one slab, three threads that each free an object of it and
 * end, and what drains do meanwhile. The slab is the first thread's to begin with; a free by another
 * puts the object on the remote list and then posts the slab to its owner's inbox, or adopts it, or
 * has nothing more to do.
 *
 * Whatever decides is in one word and changed by CAS, here one step. No other store decides anything
 * before a CAS or a lock has followed it, so that no store buffers are needed. That an inbox and the
 * lists of a heap are touched by one party at a time is what t/model/gate2.pml is about.
 *
 * Checked: a slab is in one inbox at most, and in none without an owner; it is adopted by one; it is
 * given back when no object of it is in use, once, and it is: no object is lost.
 *
 * Broken twins, each of which must be caught:
 *   SPLIT_WORD       the ownership is looked at first, and the object put on the list then
 *   POSTED_IGNORED   a slab that is posted is abandoned all the same
 *   ADOPT_NO_LOCK    adoption without the lock of the pool
 *   ADOPT_NO_LOOK    adoption without a second look: the slab may have been freed
 *   LEAVE_SPLIT      it is looked whether a slab is posted first, and then it is abandoned
 *   POSTED_BY_ALL    every free posts, not the first one only
 *   LATE_POST_LOST   nobody looks into the inbox of a heap whose thread has gone
 */

#define THREADS 3
#define NOBODY 0

/* The word. */
mtype = { NONE, OWNED, ABANDONED };
mtype own = OWNED;
bool posted;
byte remote; /* objects on the remote list */

/* The rest of the descriptor. */
byte owner = 1;
byte used = THREADS; /* objects not on the free list */
bool listed = true;  /* on a list of its owner's heap */
bool pooled;         /* on a list of the pool */

bool pool_lock;
byte inbox[4];       /* of heap 1 to 3: how often the slab is in it */
bool window[4];

/* What is really so. */
byte live = THREADS; /* objects that the program has, or that somebody is about to hand over */
byte freed;          /* times the slab was given back */
byte ended;

inline lock_pool()
{
	atomic { !pool_lock -> pool_lock = true }
}

inline lock_window(h)
{
	atomic { !window[h] -> window[h] = true }
}

/* slab_collect_to */
inline collect(flag_posted)
{
	used = used - remote;
	remote = 0;
	own = OWNED;
	posted = flag_posted
}

/* slab_unmake. The descriptor may be anything from now on. */
inline unmake()
{
	assert(live == 0 && used == 0 && remote == 0);
	assert(inbox[1] + inbox[2] + inbox[3] == 0 && !listed && !pooled);
	own = NONE;
	posted = false;
	owner = NOBODY;
	freed++
}

/* slab_place, in the window of its owner; the slab is on no list. An empty one that is the current
 * one of its class stays. */
inline place()
{
	if
	:: used == 0 -> unmake()
	:: true -> listed = true
	fi
}

/* inbox_take: false when there was nothing. */
inline open_inbox(h, any)
{
	if
	:: atomic { inbox[h] > 0 ->
		assert(inbox[h] == 1 && owner == h && posted && own == OWNED && listed);
		inbox[h]--;
		any = true
	   };
	   atomic {
		collect(false);
		listed = false;
		place()
	   }
	:: atomic { inbox[h] == 0 -> any = false }
	fi
}

#ifdef POSTED_IGNORED
#define MAY_LEAVE true
#else
#define MAY_LEAVE (!posted || owner == NOBODY)
#endif

/* slab_pool_put, and what the caller does then. */
inline put()
{
	lock_pool();
	if
	:: atomic { !MAY_LEAVE -> listed = true } /* it stays with the heap */
	:: atomic { MAY_LEAVE && used == remote -> collect(true); unmake() }
#ifdef LEAVE_SPLIT
	:: MAY_LEAVE && used != remote ->
		atomic { own = ABANDONED; posted = false };
#else
	:: atomic { MAY_LEAVE && used != remote -> own = ABANDONED; posted = false };
#endif
		atomic { owner = NOBODY; assert(!pooled); pooled = true }
	fi;
	pool_lock = false
}

/* slab_abandon */
inline leave(h)
{
	if
	:: atomic { listed && owner == h -> listed = false }; put()
	:: atomic { !(listed && owner == h) -> skip }
	fi
}

/* pool_remove, under the pool's lock: off its list, into limbo. What is on the remote list is collected when
 * the lock is free again. */
inline pool_remove()
{
	atomic {
		assert(pooled && own == ABANDONED);
		pooled = false;
		own = OWNED;
		posted = true
	}
}

/* heap_attach */
inline attach(h)
{
	lock_window(h);
	atomic {
		assert(owner == NOBODY && own == OWNED && posted && !listed && !pooled);
		owner = h
	};
	atomic {
		collect(false);
		place()
	};
	window[h] = false
}

/* slab_pool_adopt and heap_attach */
inline adopt(h)
{
#ifndef ADOPT_NO_LOCK
	lock_pool();
#endif
	if
#ifdef ADOPT_NO_LOOK
	:: true ->
#else
	:: own == ABANDONED && pooled ->
#endif
		pool_remove();
#ifndef ADOPT_NO_LOCK
		pool_lock = false;
#endif
		atomic { collect(true) };
		if
		:: attach(h)
		:: put() /* pool_refresh */
		fi
#ifndef ADOPT_NO_LOOK
	:: !(own == ABANDONED && pooled) ->
#ifdef ADOPT_NO_LOCK
		skip
#else
		pool_lock = false
#endif
#endif
	fi
}

#ifdef POSTED_BY_ALL
#define MUST_POST (own == OWNED)
#else
#define MUST_POST (own == OWNED && !posted)
#endif

/* heap_post */
inline post()
{
	atomic {
		assert(owner != NOBODY);
		inbox[owner]++;
		assert(inbox[1] + inbox[2] + inbox[3] == 1)
	}
}

/* slab_free_remote, and what its result asks for. */
inline free_remote(h)
{
#ifdef SPLIT_WORD
	if
	:: MUST_POST -> atomic { assert(own != NONE); live--; remote++; posted = true }; post()
	:: own == OWNED && !MUST_POST -> atomic { assert(own != NONE); live--; remote++ }
	:: own == ABANDONED -> atomic { assert(own != NONE); live--; remote++ }; adopt(h)
	fi
#else
	assert(own != NONE);
	if
	:: atomic { MUST_POST -> live--; remote++; posted = true }; post()
	:: atomic { own == OWNED && !MUST_POST -> live--; remote++ }
	:: atomic { own == ABANDONED -> live--; remote++ }; adopt(h)
	fi
#endif
}

proctype thread(byte h)
{
	bool any;

	/* free: whose slab it is, is asked in the window. */
	lock_window(h);
	if
	:: atomic { inbox[h] > 0 -> inbox[h]--; collect(false) } /* ours is in use: it stays listed */
	:: true
	fi;
	if
	:: atomic { owner == h ->
		live--;
		used--;
		if
		:: used == 0 -> listed = false; place()
		:: else
		fi
	   };
	   window[h] = false
	:: owner != h -> window[h] = false; free_remote(h)
	fi;

	/* A refill looks into the inbox, and takes an abandoned slab. */
	if
	:: true -> lock_window(h); open_inbox(h, any); window[h] = false
	:: true ->
		lock_pool();
		if
		:: pooled -> pool_remove(); pool_lock = false; attach(h)
		:: !pooled -> pool_lock = false
		fi
	:: true -> skip
	fi;

	/* heap_abandon_slabs, by the thread as it ends or by who holds its gate. */
	lock_window(h);
	do
	:: open_inbox(h, any);
		if
		:: any
		:: else -> break
		fi
	od;
	leave(h);
	window[h] = false;
	ended++
}

init {
	atomic { run thread(1); run thread(2); run thread(3) }
}

#define NOTHING_LEFT (ended == THREADS && !pooled && inbox[1] + inbox[2] + inbox[3] == 0)

/* What drains do: heap_sweep, and gate 2 where an inbox is not empty. */
active proctype drain()
{
	bool any;
	byte h;

	do
	:: pooled ->
		/* slab_pool_take_empty */
		lock_pool();
		if
		:: atomic { pooled && remote == used -> assert(own == ABANDONED); pooled = false;
			    own = OWNED; posted = true };
			pool_lock = false;
			atomic { collect(true) };
			atomic { unmake() }
		:: atomic { !(pooled && remote == used) -> pool_lock = false }
		fi
#ifndef LATE_POST_LOST
	:: inbox[1] + inbox[2] + inbox[3] > 0 ->
		if
		:: inbox[1] > 0 -> h = 1
		:: inbox[2] > 0 -> h = 2
		:: inbox[3] > 0 -> h = 3
		:: inbox[1] + inbox[2] + inbox[3] == 0 -> goto again
		fi;
		lock_window(h);
		open_inbox(h, any);
		leave(h);
		window[h] = false;
again:
		h = 0
	:: NOTHING_LEFT -> break
#else
	:: ended == THREADS && !pooled -> break
#endif
	od;
	assert(freed == 1 && own == NONE && live == 0 && !listed)
}
