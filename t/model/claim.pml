/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heap claim, by which others take the heap of a thread that makes no calls (src/heap/claim.c):
 * one owner, two claimers that do not wait for each other, and a fork, which marks the heap and
 * then keeps the owner from taking the mark back. Marks are made, and epochs closed, under a lock
 * (reclaim_control); the barrier is made without it. A claimer accepts any mark of its own epoch or
 * an older one, whoever made it: its barrier comes after the end of that epoch.
 *
 * Memory is that of x86-64 (TSO): what the owner stores goes into a buffer, first in first out, and
 * reaches memory at any later time; a locked instruction waits until the buffer is empty;
 * membarrier empties it. The others change the claim word by locked instructions only, and the heap
 * only before such a one, so that they need no buffers. (arm64 lets more pass: there the acquire
 * and release orders in the code stand for what TSO gives by itself: t/model/weak.pml.)
 *
 * Checked: nobody is in the critical section together with somebody else; who is in it sees all
 * that was done there before; a heap whose owner has ended is finished, once.
 *
 * Broken twins, each of which must be caught:
 *   NO_MEMBARRIER  a claimer marks and does not make the owner pass a barrier
 *   NO_EPOCH       a claimer claims any marked heap, also one that was marked after its barrier
 *   MARK_UNLOCKED  an epoch is closed while a mark of it is still to be made
 *   EXIT_IGNORED   a claimer lets go by a store and does not see that the owner has ended
 *   NO_BUSY_LOOK   a claimer does not look whether the owner is inside
 *   FORK_NO_WAIT   a fork copies the heap although its owner is inside
 *   FORK_NO_MARK   a fork does not mark, and waits only until the owner is outside
 *   FORK_SEEN_EARLY  the owner looks for a fork only before it takes a mark back
 *   FORK_LATE      a fork says that it is under way after it has looked at the claim words
 *   BACK_EXITED    a claimer that puts the mark back does not see that the owner has ended
 */

#define FREE 0
#define PENDING 1
#define HELD 2

#define BUSY 0
#define LISTS 1

#ifndef CALLS
#define CALLS 2
#endif
#ifndef TRIES
#define TRIES 2
#endif

/* Memory. lists stands for all that is inside the heap. */
byte mem[2];
byte state = FREE;
byte mark_epoch;
bool exited;

byte open_epoch = 1;
bool marking; /* the lock under which marks are made and epochs closed */

/* The owner's store buffer. */
chan buffer = [3] of { byte, byte };

/* What is really so, for the assertions. */
byte inside;    /* parties in the critical section */
byte truth;     /* what lists has to be */
byte finished;  /* times the heap was finished */
byte ended;     /* processes that are through */

/* reclaim_control: a fork does not run beside a claimer that holds heaps. */
byte takers;
bool forking;

bool under_way; /* lock_forking: no owner takes a mark back */

#define ENTER                                                                               \
	inside++;                                                                                  \
	assert(inside == 1)

#define LEAVE inside--

inline drain_one()
{
	buffer?where, what;
	mem[where] = what;
	where = 0;
	what = 0
}

inline membarrier()
{
#ifdef NO_MEMBARRIER
	skip
#else
	atomic {
		do
		:: nempty(buffer) -> drain_one()
		:: empty(buffer) -> break
		od
	}
#endif
}

active proctype memory()
{
	byte where, what;

	do
	:: atomic { nempty(buffer) -> drain_one() }
	:: atomic { empty(buffer) && ended == 4 -> break }
	od
}

/* heap_enter_slow: result `in`. Ghosts change with the load that they depend on. */
inline enter_slow()
{
	byte g;

	buffer!BUSY, 1;
	if
	:: atomic { state == FREE -> ENTER; in = true }
	:: atomic { state != FREE -> in = false; g = mark_epoch };
	   buffer!BUSY, 0;
	   if
	   :: under_way -> g = 0
	   :: !under_way ->
	      if
	      :: atomic {
		   /* take_back; then it tries again to enter. */
		   empty(buffer) && state == PENDING && mark_epoch == g ->
		   state = FREE
	         };
	         if
#ifdef FORK_SEEN_EARLY
	         :: atomic { true -> g = 0 };
#else
	         :: atomic { !under_way -> g = 0 };
#endif
	            buffer!BUSY, 1;
	            if
	            :: atomic { state == FREE -> ENTER; in = true }
	            :: state != FREE -> buffer!BUSY, 0
	            fi
#ifndef FORK_SEEN_EARLY
	         :: under_way ->
	            if
	            :: atomic { state == FREE -> state = PENDING; mark_epoch = g; g = 0 }
	            :: atomic { state != FREE -> g = 0 }
	            fi
#endif
	         fi
	      :: atomic {
		   empty(buffer) && !(state == PENDING && mark_epoch == g) -> g = 0
	         }
	      fi
	   fi
	fi
}

inline critical_exit()
{
	atomic {
		truth = 1 - truth;
		buffer!LISTS, truth
	};
	atomic {
		LEAVE;
		buffer!BUSY, 0
	}
}

active proctype owner()
{
	bool in;
	byte calls = CALLS;

	do
	:: calls > 0 ->
		calls--;
		enter_slow();
		if
		:: in -> critical_exit()
		:: else -> skip /* the fallback heap serves it */
		fi
	:: break
	od;
	calls = 0;

	/* thread_exit */
	do
	:: enter_slow();
		if
		:: atomic { in -> finished++ }; critical_exit(); break
		:: else ->
			if
			:: atomic {
				empty(buffer) && state == HELD ->
				exited = true
			   };
			   break
			:: atomic { empty(buffer) && state != HELD && !under_way -> skip }
			:: atomic {
				/* end_heap: it stays as it is, and the next thread has it */
				empty(buffer) && state != HELD && under_way ->
				finished++
			   };
			   break
			fi
		fi
	od;
	ended++
}

/* Its owner has gone. */
inline finish()
{
	atomic { ENTER };
	atomic {
		assert(mem[LISTS] == truth);
		LEAVE;
		exited = false;
		state = FREE;
		finished++
	}
}

/* claim_release */
inline release()
{
#ifdef EXIT_IGNORED
	state = FREE;
	exited = false
#else
	if
	:: atomic { !exited -> assert(state == HELD); state = FREE }
	:: exited -> finish()
	fi
#endif
}

/* claim_put_back: the mark is there as it was. */
inline put_back()
{
	if
	:: atomic {
#ifdef BACK_EXITED
		state == HELD -> state = PENDING; exited = false
#else
		state == HELD && !exited -> state = PENDING
#endif
	   }
#ifndef BACK_EXITED
	:: exited -> finish()
#endif
	fi
}

active [2] proctype claimer()
{
	byte where, what, e, epoch;
	byte tries = (_pid == 2 -> 1 : TRIES); /* that the states be not too many */

	do
	:: tries > 0 ->
		tries--;

		/* claim_mark and claim_close, of reclaim_mark or heap_growth_mark */
		atomic { !forking && !marking -> marking = true };
		e = open_epoch;
#ifdef MARK_UNLOCKED
		marking = false;
#endif
		if
		:: atomic { state == FREE -> state = PENDING; mark_epoch = e }
		:: state != FREE -> skip
		fi;
		atomic { epoch = open_epoch; open_epoch++; marking = false; e = 0 };

		/* claim_pass */
		membarrier();

		/* claim_try, as much later as one likes, also again */
again:
		atomic { !forking -> takers++ };
		e = mark_epoch;
		if
#ifdef NO_EPOCH
		:: atomic { state == PENDING -> state = HELD };
#else
		:: atomic {
			state == PENDING && mark_epoch == e && e <= epoch ->
			state = HELD
		   };
#endif
			if
			:: atomic {
#ifdef NO_BUSY_LOOK
				true ->
#else
				mem[BUSY] == 0 ->
#endif
				ENTER
			   };
			   atomic {
				assert(mem[LISTS] == truth);
				truth = 1 - truth;
				mem[LISTS] = truth;
				LEAVE
			   };
			   if
			   :: release()
			   :: put_back(); takers--; goto again
			   fi
#ifndef NO_BUSY_LOOK
			:: mem[BUSY] != 0 -> release()
#endif
			fi
#ifdef NO_EPOCH
		:: state != PENDING -> skip
#else
		:: atomic {
			!(state == PENDING && mark_epoch == e && e <= epoch) ->
			skip
		   }
#endif
		fi;
		takers--;
		e = 0;
		epoch = 0
	:: else -> break
	od;
	ended++
}

active proctype fork()
{
	byte where, what, e;
	bool marked;

	/* prepare: a heap that holds nothing is left alone */
	atomic { takers == 0 && !marking -> forking = true };
#ifndef FORK_LATE
	under_way = true;
#endif
	e = open_epoch;
	if
#ifndef FORK_NO_MARK
	:: atomic { state == FREE -> state = PENDING; mark_epoch = e; marked = true }
#else
	:: state == FREE -> marked = true
#endif
	:: state != FREE -> marked = true
	:: true -> skip
	fi;
#ifdef FORK_LATE
	under_way = true;
#endif
	e = 0;
	membarrier();
	if
	:: !marked -> skip
#ifdef FORK_NO_WAIT
	:: atomic { marked -> ENTER };
#else
	:: atomic { marked && mem[BUSY] == 0 -> ENTER };
#endif
		atomic { assert(mem[LISTS] == truth); LEAVE }
	:: marked && mem[BUSY] != 0 -> skip /* waited long enough: left alone in the child */
	fi;
	under_way = false;
	atomic { forking = false; ended++ }
}

/* When all is over the heap has been finished, once, and nobody holds it. */
active proctype over()
{
	atomic {
		ended == 4 && empty(buffer) ->
		assert(finished == 1);
		assert(inside == 0 && !exited && state != HELD)
	}
}
