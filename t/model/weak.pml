/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heap claim (src/heap/claim.c, t/model/claim.pml) where memory is weak, as that of arm64 is:
 * one owner and one taker, each of which has
 *
 *   stores that reach memory late and in any order, but for those of one word, and but for a
 *   release, which goes
 *          behind all that came before it;
 *   loads  that are early: what lies behind an acquire is read after it, anything else may have
 *          been read before.
 *
 * A CAS of the gate is one step. It is acquire and release, so it waits for all that was stored
 * before. membarrier has the owner's stores arrive, and no load of the owner's behind it was read
 * before it.
 *
 * lists stands for all that is inside the heap. Who enters reads it, finds what was left there
 * last, and changes it.
 *
 * Checked: nobody is in the window together with somebody else; who enters finds what was left
 * there.
 *
 * Broken twins, each of which is one order less, and must be caught:
 *   NO_MEMBARRIER   a taker marks and does not make the owner pass a barrier
 *   ENTER_RELAXED   the owner's load of the gate is no acquire
 *   LEAVE_RELAXED   the owner's store of busy as it leaves is no release
 *   LOOK_RELAXED    the taker's load of busy is no acquire
 *   LET_GO_RELAXED  the taker's store of the gate as it lets go is no release
 *   NO_LOOK         the taker does not look whether the owner is inside
 */

#define FREE 0
#define PENDING 1
#define HELD 2

#define ANY 255 /* nothing was read early */
#define CALLS 2
#define TURNS 2

/* Memory. */
byte lists;
byte busy;
byte gate = FREE;

/* What is really so. */
byte truth;
byte inside;
byte ended;

/* Stores under way, at most one of each word; a second one waits for the first. */
#define NONE 255
byte own_busy = NONE;   /* the owner's */
bool own_busy_last;     /* it is a release: behind lists */
byte own_lists = NONE;
byte his_lists = NONE;  /* the taker's */
byte his_gate = NONE;
bool his_gate_last;

/* membarrier. The taker's own have arrived: it has just marked. */
inline flush()
{
	atomic {
		if
		:: own_lists != NONE -> lists = own_lists; own_lists = NONE
		:: else
		fi;
		if
		:: own_busy != NONE -> busy = own_busy; own_busy = NONE
		:: else
		fi
	}
}

active proctype memory()
{
	do
	:: atomic { own_lists != NONE -> lists = own_lists; own_lists = NONE }
	:: atomic {
		own_busy != NONE && !(own_busy_last && own_lists != NONE) ->
		busy = own_busy;
		own_busy = NONE
	   }
	:: atomic { his_lists != NONE -> lists = his_lists; his_lists = NONE }
	:: atomic {
		his_gate != NONE && !(his_gate_last && his_lists != NONE) ->
		gate = his_gate;
		his_gate = NONE
	   }
	:: atomic {
		ended == 2 && own_lists == NONE && own_busy == NONE && his_lists == NONE &&
		his_gate == NONE -> break
	   }
	od
}

#define OWN_LISTS (own_lists != NONE -> own_lists : lists)

/* Barriers that the owner has passed: what it read early it reads again behind one. */
byte barriers;

active proctype owner()
{
	byte calls = CALLS;
	byte early, passed, see;

	do
	:: calls > 0 ->
		calls--;
retry:
		early = ANY;
		atomic { own_busy == NONE -> own_busy = 1; own_busy_last = false };
#ifdef ENTER_RELAXED
		/* lists may be read before the gate is */
		if
		:: atomic { early = OWN_LISTS; passed = barriers }
		:: true
		fi;
#endif
		if
		:: atomic { gate == FREE ->
			inside++;
			assert(inside == 1)
		   };
		   atomic {
			see = (early != ANY && passed == barriers -> early : OWN_LISTS);
			assert(see == truth);
			truth = 1 - truth
		   };
		   atomic { own_lists == NONE -> own_lists = truth; inside-- };
#ifdef LEAVE_RELAXED
		   atomic { own_busy == NONE -> own_busy = 0; own_busy_last = false }
#else
		   atomic { own_busy == NONE -> own_busy = 0; own_busy_last = true }
#endif
		:: gate != FREE ->
		   atomic { own_busy == NONE -> own_busy = 0; own_busy_last = true };
		   /* claim_take_back */
		   if
		   :: atomic {
			own_busy == NONE && own_lists == NONE && gate == PENDING -> gate = FREE
		      };
		      goto retry
		   :: atomic {
			own_busy == NONE && own_lists == NONE && gate != PENDING -> skip
		      }
		   fi
		fi
	:: calls == 0 -> break
	od;
	early = 0;
	passed = 0;
	see = 0;
	ended++
}

active proctype taker()
{
	byte turns = TURNS;
	byte early, see;

	do
	:: turns > 0 ->
		turns--;
		early = ANY;
		/* mark; the mark before is gone: its holder's store has arrived, for one store of a word waits for another */
		if
		:: atomic { his_gate == NONE && his_lists == NONE && gate == FREE -> gate = PENDING }
		fi;
#ifndef NO_MEMBARRIER
		atomic { flush(); barriers++ };
#endif
		if
		:: atomic { gate == PENDING -> gate = HELD };
#ifdef LOOK_RELAXED
			/* lists may be read before busy is */
			if
			:: early = lists
			:: true
			fi;
#endif
			if
#ifdef NO_LOOK
			:: atomic { true ->
#else
			:: atomic { busy == 0 ->
#endif
				inside++;
				assert(inside == 1);
				see = (early != ANY -> early : lists);
				assert(see == truth);
				truth = 1 - truth;
				his_lists = truth;
				inside--
			   }
#ifndef NO_LOOK
			:: busy != 0 -> skip
#endif
			fi;
#ifdef LET_GO_RELAXED
			atomic { his_gate = FREE; his_gate_last = false }
#else
			atomic { his_gate = FREE; his_gate_last = true }
#endif
		:: gate != PENDING -> skip /* the owner took it back */
		fi
	:: turns == 0 -> break
	od;
	early = 0;
	see = 0;
	ended++
}
