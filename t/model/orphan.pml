/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Who takes an orphan, the heap of a thread that a child of fork does not have (take_orphan,
 * take_gone, heap_retire and heap_create_self of src/heap/heap_thread.c). Any thread of the child
 * may take it: a call that needs a slab abandons the orphan's slabs and retires it, a thread that
 * begins retires it as it is, and both look first at the process in it and then at its TID.
 * Retired heaps wait on a list; a thread that begins takes one, and may end again.
 *
 * Each atomic access is a step, memory is sequentially consistent; the orders in the code (a CAS
 * of process releases, a load of it acquires before that of the TID) stand for that.
 *
 * Checked: nobody retires a heap that waits already or that has a thread; a heap has at most one
 * thread, and nobody but its thread is in it; and the orphan is retired in the end.
 *
 * Broken twins, each of which must be caught:
 *   TID_STORED     the thread that has changed the process stores the TID, and has the heap
 *   PROCESS_ONLY   the TID is left as it is
 *   PROCESS_STORED the process is stored, not compared
 *   TID_NOT_CLEARED  take_gone looks at the TID and does not change it
 */

#define PARENT 1
#define CHILD 2

#define NONE 0
#define GONE 1 /* the TID of the parent's thread; those of the child's are 2 + pid */

#ifndef TAKERS
#define TAKERS 3
#endif

/* The heap. */
byte process = PARENT;
byte tid;
bool copied; /* the child exists */
bool unattached;

bool waits;   /* it is on the list of heaps that wait for a thread */
bool locked;  /* the registry lock, for the list */

/* What is really so. */
byte owners;  /* threads that have it */
byte inside;  /* parties that empty it */
byte ended;   /* processes that are through */

inline retire()
{
	unattached = true;
	tid = NONE;
	atomic {
		assert(!waits && owners == 0 && inside == 0);
		waits = true
	}
}

/* end_heap: the slabs go to their pools */
inline empty_it()
{
	atomic { inside++; assert(inside == 1 && owners == 0 && !waits) };
	inside--;
	retire()
}

/* Sets `mine`: the caller has to empty or retire the heap. The steps in which nothing is seen any
 * more are left out. */
inline take_orphan()
{
	mine = false;
	p = process;
	t = tid;
	if
	:: p != CHILD && process != CHILD && !unattached ->
#ifdef PROCESS_STORED
		process = CHILD;
		mine = true;
#else
		atomic {
			mine = (process == p);
			if
			:: mine -> process = CHILD
			:: else
			fi
		};
#endif
	:: else
	fi;
	if
	:: !mine || t == NONE
	:: mine && t != NONE ->
#ifdef PROCESS_ONLY
		skip
#else
#ifdef TID_STORED
		tid = NONE
#else
		atomic {
			mine = (tid == t);
			if
			:: mine -> tid = NONE
			:: else
			fi
		}
#endif
#endif
	fi
}

inline take_gone()
{
	mine = false;
	t = tid;
	if
	:: t == GONE ->
#ifdef TID_NOT_CLEARED
		mine = true
#else
		atomic {
			mine = (tid == t);
			if
			:: mine -> tid = NONE
			:: else
			fi
		}
#endif
	:: else
	fi
}

inline begin_thread()
{
	atomic { !locked -> locked = true };
	if
	:: atomic { waits -> waits = false };
		process = CHILD;
		unattached = false;
		has = true
	:: !waits
	fi;
	locked = false;
	if
	:: has ->
		atomic { owners++; assert(owners == 1 && inside == 0) };
		tid = 2 + _pid
	:: else
	fi
}

inline end_thread()
{
	tid = NONE;
	atomic { owners--; assert(owners == 0) };
	has = false;
	empty_it()
}

/* A thread that was about to end, or had just begun, had no TID in the heap. */
active proctype fork()
{
	if
	:: tid = GONE
	:: skip
	fi;
	copied = true
}

active [TAKERS] proctype thread()
{
	byte p, t;
	bool mine, has;

	copied;
	if
	:: take_orphan(); /* heap_take_orphan, in a call that needs a slab */
		if
		:: mine -> empty_it()
		:: else
		fi
	:: take_orphan(); /* reap */
		if
		:: mine -> retire()
		:: else ->
			take_gone();
			if
			:: mine -> empty_it()
			:: else
			fi
		fi
	fi;
	p = 0;
	t = 0;
	mine = false;
	begin_thread();
	if
	:: has -> end_thread()
	:: has
	:: else
	fi;
	ended++
}

active proctype over()
{
	atomic {
		ended == TAKERS ->
		assert(waits || owners == 1)
	}
}
