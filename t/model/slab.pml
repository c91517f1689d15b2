/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state word of a slab (src/heap/slab.h): one slab, three threads that each free an object of
 * it and end, and drains meanwhile. The first thread owns the slab at the start. A free by another
 * thread pushes the object on the remote list. Then it posts the slab to its owner's inbox, or
 * adopts the slab, or has nothing more to do.
 *
 * All decisions are made by CAS on one word, here one step. Every other store is followed by a CAS
 * or a lock before another thread depends on it, so the model needs no store buffers. That one
 * party at a time touches the inbox and the lists of a heap is checked by t/model/claim.pml.
 *
 * Checked: a slab is in at most one inbox, and in none without an owner; one thread adopts it; it
 * is given back exactly once, when no object of it is in use; no object is lost.
 *
 * Broken twins, each of which must be caught:
 *   SPLIT_WORD       reads the ownership first, and pushes the object in a second step
 *   POSTED_IGNORED   abandons a slab although it is posted
 *   ADOPT_NO_LOCK    adopts without the lock of the pool
 *   ADOPT_NO_CHECK   adopts without reading the state again: the slab may have been given back
 *   ABANDON_SPLIT    checks first that a slab is not posted, and abandons it in a second step
 *   POSTED_BY_ALL    every free posts, not only the first
 *   INBOX_LOST       drains skip the inbox of a heap whose thread has ended
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
bool busy[4];

/* Ghost state, for the assertions. */
byte live = THREADS; /* objects that the program has, or that a thread is about to push */
byte freed;          /* how often the slab was given back */
byte ended;

inline lock_pool()
{
	atomic { !pool_lock -> pool_lock = true }
}

inline enter(h)
{
	atomic { !busy[h] -> busy[h] = true }
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

/* slab_place, in the critical section of its owner; the slab is on no list. If it is empty and the
 * current slab of its class, it stays. */
inline place()
{
	if
	:: used == 0 -> unmake()
	:: true -> listed = true
	fi
}

/* inbox_take: any = false if the inbox was empty. */
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
#define MAY_ABANDON true
#else
#define MAY_ABANDON (!posted || owner == NOBODY)
#endif

/* slab_pool_put, and what the caller does then. */
inline put()
{
	lock_pool();
	if
	:: atomic { !MAY_ABANDON -> listed = true } /* it stays with the heap */
	:: atomic { MAY_ABANDON && used == remote -> collect(true); unmake() }
#ifdef ABANDON_SPLIT
	:: MAY_ABANDON && used != remote ->
		atomic { own = ABANDONED; posted = false };
#else
	:: atomic { MAY_ABANDON && used != remote -> own = ABANDONED; posted = false };
#endif
		atomic { owner = NOBODY; assert(!pooled); pooled = true }
	fi;
	pool_lock = false
}

/* slab_abandon */
inline abandon(h)
{
	if
	:: atomic { listed && owner == h -> listed = false }; put()
	:: atomic { !(listed && owner == h) -> skip }
	fi
}

/* pool_remove, under the pool's lock: off its list, into limbo. The remote list is collected after
 * the lock was released. */
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
	enter(h);
	atomic {
		assert(owner == NOBODY && own == OWNED && posted && !listed && !pooled);
		owner = h
	};
	atomic {
		collect(false);
		place()
	};
	busy[h] = false
}

/* slab_pool_adopt and heap_attach */
inline adopt(h)
{
#ifndef ADOPT_NO_LOCK
	lock_pool();
#endif
	if
#ifdef ADOPT_NO_CHECK
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
#ifndef ADOPT_NO_CHECK
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

/* slab_free_remote, and the action that its result asks for. */
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

	/* free: the owner is compared inside the critical section. */
	enter(h);
	if
	:: atomic { inbox[h] > 0 -> inbox[h]--; collect(false) } /* it stays listed */
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
	   busy[h] = false
	:: owner != h -> busy[h] = false; free_remote(h)
	fi;

	/* A refill opens the inbox, and adopts an abandoned slab. */
	if
	:: true -> enter(h); open_inbox(h, any); busy[h] = false
	:: true ->
		lock_pool();
		if
		:: pooled -> pool_remove(); pool_lock = false; attach(h)
		:: !pooled -> pool_lock = false
		fi
	:: true -> skip
	fi;

	/* heap_abandon_slabs, by the thread as it ends or by a holder of its claim. */
	enter(h);
	do
	:: open_inbox(h, any);
		if
		:: any
		:: else -> break
		fi
	od;
	abandon(h);
	busy[h] = false;
	ended++
}

init {
	atomic { run thread(1); run thread(2); run thread(3) }
}

#define NOTHING_LEFT (ended == THREADS && !pooled && inbox[1] + inbox[2] + inbox[3] == 0)

/* Drains: heap_sweep, and the heap claim where an inbox is not empty. */
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
#ifndef INBOX_LOST
	:: inbox[1] + inbox[2] + inbox[3] > 0 ->
		if
		:: inbox[1] > 0 -> h = 1
		:: inbox[2] > 0 -> h = 2
		:: inbox[3] > 0 -> h = 3
		:: inbox[1] + inbox[2] + inbox[3] == 0 -> goto again
		fi;
		enter(h);
		open_inbox(h, any);
		abandon(h);
		busy[h] = false;
again:
		h = 0
	:: NOTHING_LEFT -> break
#else
	:: ended == THREADS && !pooled -> break
#endif
	od;
	assert(freed == 1 && own == NONE && live == 0 && !listed)
}
