/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pcp drain: any thread may empty a pcp (src/page/pcp.c). A thread that uses its pcp, another
 * whose pcp is made meanwhile, a drainer, and a thread that disables all pcps.
 *
 * Memory is that of x86-64 (TSO): what the two threads store under their pcp's lock, and the store
 * that unlocks it, go through a buffer of their own; a CAS waits until the buffer is empty.
 *
 * Checked: one party is under a pcp's lock; it sees what was done under the lock before; no run is
 * lost; no party is ever stuck; once heap_pcps_disable has returned no run enters any pcp.
 *
 * Broken twins, each of which must be caught:
 *   FLAG_NO_LOCK   the disabled flag is set without the lock
 *   BIRTH_NO_LOOK  a new pcp does not check whether a disable is under way
 *   BOTH_LOCKS     a drainer keeps the pcp while it takes the buddy core, a refill the other way
 *                  round
 *   OWNER_WAITS    an owner waits for its pcp's lock; a signal handler is an owner too
 *   EARLY_UNLOCK   the lock is released before the last store under it
 */

bool lock[2];
byte count[2];
bool flag[2];   /* PCP_DISABLED */
bool born;      /* the heap of pcp 1 is on the list; that of pcp 0 always was */
bool buddy_lock;
byte buddy;     /* runs in the buddy core */
bool disabled;

/* Ghost state, for the assertions. */
byte inside[2];
byte truth[2];
bool returned;  /* heap_pcps_disable has returned */
byte ended;

/* Stores of the two threads: kind and value. */
mtype = { COUNT, UNLOCK };
chan buffer[2] = [2] of { mtype, byte };

inline drain_one(b)
{
	if
	:: buffer[b]?COUNT, value -> count[b] = value
	:: buffer[b]?UNLOCK, _ -> lock[b] = false
	fi;
	value = 0
}

active proctype memory()
{
	byte value;

	do
	:: atomic { nempty(buffer[0]) -> drain_one(0) }
	:: atomic { nempty(buffer[1]) -> drain_one(1) }
	:: atomic { ended == 4 && empty(buffer[0]) && empty(buffer[1]) -> break }
	od
}

#define LOCKED(p)                                                                                  \
	inside[p]++;                                                                               \
	assert(inside[p] == 1 && count[p] == truth[p])

/* What the two threads do under the lock, and its end. */
inline put_own(p)
{
	assert(!returned);
	truth[p]++;
	buffer[p]!COUNT, truth[p]
}

inline unlock_own(p)
{
	atomic { inside[p]--; buffer[p]!UNLOCK, 0 }
}

inline buddy_change(by)
{
	atomic { !buddy_lock -> buddy_lock = true };
	buddy = buddy + by;
	buddy_lock = false
}

/* pcp_free. A handler may interrupt it at the worst moment, inside the lock. */
inline give(p)
{
	if
	:: atomic { empty(buffer[p]) && !lock[p] -> lock[p] = true; LOCKED(p) };
		if
		:: interrupts ->
			/* The handler frees a run: the lock is held, so the run bypasses the
			 * pcp. */
			interrupts = false;
#ifdef OWNER_WAITS
			empty(buffer[p]) && !lock[p]
#else
			empty(buffer[p]) && lock[p];
			buddy_change(1)
#endif
		:: true -> skip
		fi;
		if
		:: flag[p] -> unlock_own(p); buddy_change(1)
		:: !flag[p] ->
#ifdef EARLY_UNLOCK
			unlock_own(p);
			atomic { put_own(p) }
#else
			atomic { put_own(p) };
			unlock_own(p)
#endif
		fi
#ifndef OWNER_WAITS
	:: atomic { empty(buffer[p]) && lock[p] -> skip }; buddy_change(1)
#endif
	fi
}

/* A refill: one run for the caller, which gives it back to the buddy core, one for the pcp. */
inline refill(p)
{
#ifdef BOTH_LOCKS
	atomic { !buddy_lock && buddy >= 1 -> buddy_lock = true };
	buddy--;
	atomic { empty(buffer[p]) && !lock[p] -> lock[p] = true; LOCKED(p) };
	if
	:: flag[p] -> buddy++
	:: !flag[p] -> atomic { put_own(p) }
	fi;
	unlock_own(p);
	buddy_lock = false
#else
	atomic { !buddy_lock -> buddy_lock = true };
	if
	:: buddy > 0 ->
		buddy--;
		buddy_lock = false;
		give(p)
	:: buddy == 0 -> buddy_lock = false
	fi
#endif
}

proctype thread(byte me)
{
	bool interrupts;

	if
	:: me == 1 ->
		/* pcp_init: locked before any other thread knows it; then heap_publish, pcp_open */
		atomic { lock[1] = true; LOCKED(1) };
		born = true; /* a CAS */
#ifndef BIRTH_NO_LOOK
		if
		:: disabled -> flag[1] = true
		:: !disabled
		fi;
#endif
		unlock_own(1)
	:: me == 0 -> interrupts = true
	fi;
	give(me);
	refill(me);
	/* So that the count at the end is exact. */
	if
	:: interrupts -> interrupts = false; buddy_change(1)
	:: else
	fi;
	ended++
}

init {
	atomic { run thread(0); run thread(1) }
}

active proctype drainer()
{
	byte p, n;
	byte tries = 2;

	do
	:: tries > 0 ->
		tries--;
		if
		:: p = 0
		:: born -> p = 1
		fi;
		if
		:: atomic { !lock[p] -> lock[p] = true; LOCKED(p) };
			atomic {
				n = count[p];
				count[p] = 0;
				truth[p] = 0
			};
#ifdef BOTH_LOCKS
			buddy_change(n);
			atomic { inside[p]--; lock[p] = false }
#else
			atomic { inside[p]--; lock[p] = false };
			if
			:: n -> buddy_change(n)
			:: else
			fi
#endif
		:: lock[p] -> skip /* skipped, and tried again */
		fi;
		p = 0;
		n = 0
	:: else -> break
	od;
	ended++
}

active proctype disabler()
{
	byte p;
	byte n;

	disabled = true;
	do
	:: p < 2 && (p == 0 || born) ->
#ifdef FLAG_NO_LOCK
		flag[p] = true;
#else
		/* lock_wait */
		atomic { !lock[p] -> lock[p] = true; LOCKED(p) };
		flag[p] = true;
		atomic { inside[p]--; lock[p] = false };
#endif
		p++
	:: p == 1 && !born -> p++
	:: p == 2 -> break
	od;
	returned = true;
	/* What sluice_drain finds then cannot change any more. */
	p = 0;
	do
	:: p < 2 && (p == 0 || born) ->
		atomic { !lock[p] -> lock[p] = true; LOCKED(p) };
		atomic { n = count[p]; count[p] = 0; truth[p] = 0 };
		atomic { inside[p]--; lock[p] = false };
		if
		:: n -> buddy_change(n)
		:: else
		fi;
		n = 0;
		p++
	:: p == 1 && !born -> p++
	:: p == 2 -> break
	od;
	ended++
}

/* Each thread gave one run, and thread 0's handler another; a refill changes nothing in sum. */
active proctype over()
{
	atomic {
		ended == 4 && empty(buffer[0]) && empty(buffer[1]) ->
		assert(count[0] + count[1] + buddy == 3);
		assert(count[0] == 0 && count[1] == 0)
	}
}
