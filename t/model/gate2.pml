/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Gate 2, by which others take the heap of a thread that makes no calls (src/heap/claim.c): one
 * owner, two takers that do not wait for each other, and a fork. One of them marks over the mark of the
 * other, which then relies on that, and relies on a mark that it finds (heap_growth_mark).
 *
 * Memory is that of x86-64 (TSO): what the owner stores goes into a buffer, first in first out, and
 * reaches memory at any later time; a locked instruction waits until the buffer is empty; membarrier
 * empties it. The others change the gate by locked instructions only, and the heap only before such
 * a one, so that they need no buffers. (arm64 lets more pass: there the acquire and release orders
 * in the code stand for what TSO gives by itself: t/model/weak.pml.)
 *
 * Checked: nobody is in the window together with somebody else; who is in it sees all that was done
 * there before; a heap whose owner has gone is finished, once.
 *
 * Broken twins, each of which must be caught:
 *   NO_MEMBARRIER  a taker marks and does not make the owner pass a barrier
 *   NO_GENERATION  a taker takes any pending gate, not only the one of its own mark
 *   PLAIN_PENDING  a mark is a store after a look, not a CAS
 *   EXIT_IGNORED   a holder lets go by a store and does not see that the owner has gone
 *   NO_BUSY_LOOK   a taker that holds the gate does not look whether the owner is inside
 *   FORK_NO_WAIT   a fork copies the heap although its owner is inside
 *   RELEASE_UNHELD a fork lets go of a gate that it did not take
 *   NO_OWN_BARRIER a taker that relies on another's mark makes no barrier of its own
 *   LATE_RELY      a mark over another's is relied on though the gate was free in between
 *   BACK_EXITED    a holder that puts the mark back does not see that the owner has gone
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
byte gate_state = FREE;
byte claim_epoch;
bool gate_exited;
byte generation;

/* The owner's store buffer. */
chan buffer = [3] of { byte, byte };

/* What is really so, for the assertions. */
byte inside;    /* parties in the window */
byte truth;     /* what lists has to be */
byte finished;  /* times the heap was finished */
byte ended;     /* processes that are through */

/* reclaim_control: a fork does not run beside a taker that holds gates. */
byte takers;
bool forking;

/* The takers, and the mark that each relies on. */
#define IDLE 0
#define GROWTH 1
byte relied[2];

#define ENTER_WINDOW                                                                               \
	inside++;                                                                                  \
	assert(inside == 1)

#define LEAVE_WINDOW inside--

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
inline window_open()
{
	byte g;

	buffer!BUSY, 1;
	if
	:: atomic { gate_state == FREE -> ENTER_WINDOW; in = true }
	:: atomic { gate_state != FREE -> in = false; g = claim_epoch };
	   buffer!BUSY, 0;
	   if
	   :: atomic {
		   /* claim_take_back; then it tries again to enter. */
		   empty(buffer) && gate_state == PENDING && claim_epoch == g ->
		   gate_state = FREE;
		   g = 0
	      };
	      buffer!BUSY, 1;
	      if
	      :: atomic { gate_state == FREE -> ENTER_WINDOW; in = true }
	      :: gate_state != FREE -> buffer!BUSY, 0
	      fi
	   :: atomic {
		   empty(buffer) && !(gate_state == PENDING && claim_epoch == g) -> g = 0
	      }
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
		LEAVE_WINDOW;
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
		window_open();
		if
		:: in -> critical_exit()
		:: else -> skip /* the fallback heap serves it */
		fi
	:: break
	od;
	calls = 0;

	/* thread_exit */
	do
	:: window_open();
		if
		:: atomic { in -> finished++ }; critical_exit(); break
		:: else ->
			if
			:: atomic {
				empty(buffer) && gate_state == HELD ->
				gate_exited = true
			   };
			   break
			:: atomic { empty(buffer) && gate_state != HELD -> skip }
			fi
		fi
	od;
	ended++
}

/* Its owner has gone. */
inline finish()
{
	atomic { ENTER_WINDOW };
	atomic {
		assert(mem[LISTS] == truth);
		LEAVE_WINDOW;
		gate_exited = false;
		gate_state = FREE;
		finished++
	}
}

/* claim_release */
inline release()
{
#ifdef EXIT_IGNORED
	gate_state = FREE;
	gate_exited = false
#else
	if
	:: atomic { !gate_exited -> assert(gate_state == HELD); gate_state = FREE }
	:: gate_exited -> finish()
	fi
#endif
}

/* The mark is there as it was, for the same taker to take again. */
inline put_back()
{
	if
	:: atomic {
#ifdef BACK_EXITED
		gate_state == HELD -> gate_state = PENDING; gate_exited = false
#else
		gate_state == HELD && !gate_exited -> gate_state = PENDING
#endif
	   }
#ifndef BACK_EXITED
	:: gate_exited -> finish()
#endif
	fi
}

active [2] proctype taker()
{
	byte where, what, g, old;
	byte me = _pid - 2; /* after memory and owner */
	byte tries = (me == IDLE -> 1 : TRIES); /* that the states be not too many */

	do
	:: tries > 0 ->
		tries--;
		atomic { generation++; g = generation };

		/* heap_idle_mark */
#ifdef PLAIN_PENDING
		if
		:: gate_state == FREE -> atomic { gate_state = PENDING; claim_epoch = g }
		:: gate_state != FREE -> goto next
		fi;
#else
		if
		:: atomic {
			gate_state == FREE ->
			gate_state = PENDING;
			claim_epoch = g;
			relied[me] = g
#ifdef LATE_RELY
			;
			relied[GROWTH] = g
#endif
		   }
		:: atomic {
			me == IDLE && gate_state == PENDING ->
			old = claim_epoch;
			claim_epoch = g;
			relied[me] = g
		   };
		   atomic {
			if
			:: relied[GROWTH] == old -> relied[GROWTH] = g
			:: else -> skip
			fi;
			old = 0
		   }
		/* heap_growth_mark */
		:: atomic { me == GROWTH && gate_state == PENDING -> relied[me] = claim_epoch };
#ifdef NO_OWN_BARRIER
		   goto again
#endif
		:: gate_state == HELD -> goto next
		fi;
#endif
		membarrier();

		/* heap_idle_take, heap_growth_take or heap_visit, as much later as one likes, also again */
again:
		atomic { !forking -> takers++; g = relied[me] };
		if
#ifdef NO_GENERATION
		:: atomic { gate_state == PENDING -> gate_state = HELD; claim_epoch = g };
#else
		:: atomic { gate_state == PENDING && claim_epoch == g -> gate_state = HELD };
#endif
			if
			:: atomic {
#ifdef NO_BUSY_LOOK
				true ->
#else
				mem[BUSY] == 0 ->
#endif
				ENTER_WINDOW
			   };
			   atomic {
				assert(mem[LISTS] == truth);
				truth = 1 - truth;
				mem[LISTS] = truth;
				LEAVE_WINDOW
			   };
			   if
			   :: release()
			   :: put_back(); takers--; goto again
			   fi
#ifndef NO_BUSY_LOOK
			:: mem[BUSY] != 0 -> release()
#endif
			fi
#ifdef NO_GENERATION
		:: gate_state != PENDING -> skip
#else
		:: atomic { !(gate_state == PENDING && claim_epoch == g) -> skip }
#endif
		fi;
		takers--;
next:
		g = 0;
		relied[me] = 0
	:: else -> break
	od;
	ended++
}

active proctype fork()
{
	byte where, what;
	bool held;

	/* prepare: claim_hold_all, which takes a gate that is free or pending, and lets a heap be that
	 * holds nothing */
	atomic { takers == 0 -> forking = true };
	if
	:: atomic {
		gate_state != HELD -> gate_state = HELD; claim_epoch = 0; held = true
	   }
	:: true -> goto parent
	fi;
	membarrier();
	if
#ifdef FORK_NO_WAIT
	:: atomic { true -> ENTER_WINDOW };
#else
	:: atomic { mem[BUSY] == 0 -> ENTER_WINDOW };
#endif
		atomic { assert(mem[LISTS] == truth); LEAVE_WINDOW }
	:: mem[BUSY] != 0 -> skip /* waited long enough: left alone in the child */
	fi;
parent:
#ifdef RELEASE_UNHELD
	release();
#else
	if
	:: held -> release()
	:: !held -> skip
	fi;
#endif
	atomic { forking = false; ended++ }
}

/* When all is over the heap has been finished, once, and the gate is nobody's. */
active proctype over()
{
	atomic {
		ended == 4 && empty(buffer) ->
		assert(finished == 1);
		assert(inside == 0 && !gate_exited && gate_state != HELD)
	}
}
