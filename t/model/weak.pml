/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The heap claim (src/heap/claim.c, t/model/claim.pml) on weakly ordered memory, such as that of
 * arm64: one owner and one claimer. Each of them has
 *
 *   stores that reach memory late and in any order. Two exceptions: stores to the same word keep
 *          their order, and a release store arrives after all stores before it;
 *   loads  that happen early: a load after an acquire is read after it, any other load may have
 *          been read before.
 *
 * A CAS of the claim word is one step. It is acquire and release, so it waits for all stores before
 * it. membarrier makes the owner's stores arrive, and no later load of the owner was read before
 * it.
 *
 * lists stands for all data of the heap. A party in its critical section reads lists, finds what
 * was stored there last, and changes it.
 *
 * Checked: two parties are never in a critical section together; each party finds the last value.
 *
 * Broken twins, each with one order less, must be caught:
 *   NO_MEMBARRIER    the claimer marks and does not make the owner pass a barrier
 *   ENTER_RELAXED    the owner's load of the claim word is no acquire
 *   EXIT_RELAXED     the owner's store of busy at its exit is no release
 *   CHECK_RELAXED    the claimer's load of busy is no acquire
 *   RELEASE_RELAXED  the claimer's store of the claim word at its release is no release
 *   NO_CHECK         the claimer does not check whether the owner is inside
 */

#define FREE 0
#define PENDING 1
#define HELD 2

#define ANY 255 /* nothing was read early */
#define CALLS 2
#define ATTEMPTS 2

/* Memory. */
byte lists;
byte busy;
byte word = FREE;

/* The actual state. */
byte truth;
byte inside;
byte ended;

/* Stores that have not arrived, at most one for each word; a second one waits for the first. */
#define NONE 255
byte owner_busy = NONE;    /* the owner's */
bool owner_busy_last;      /* it is a release: arrives after lists */
byte owner_lists = NONE;
byte claimer_lists = NONE;  /* the claimer's */
byte claimer_word = NONE;
bool claimer_word_last;

/* membarrier. The claimer's own stores have arrived: it has just marked. */
inline flush()
{
	atomic {
		if
		:: owner_lists != NONE -> lists = owner_lists; owner_lists = NONE
		:: else
		fi;
		if
		:: owner_busy != NONE -> busy = owner_busy; owner_busy = NONE
		:: else
		fi
	}
}

active proctype memory()
{
	do
	:: atomic { owner_lists != NONE -> lists = owner_lists; owner_lists = NONE }
	:: atomic {
		owner_busy != NONE && !(owner_busy_last && owner_lists != NONE) ->
		busy = owner_busy;
		owner_busy = NONE
	   }
	:: atomic { claimer_lists != NONE -> lists = claimer_lists; claimer_lists = NONE }
	:: atomic {
		claimer_word != NONE && !(claimer_word_last && claimer_lists != NONE) ->
		word = claimer_word;
		claimer_word = NONE
	   }
	:: atomic {
		ended == 2 && owner_lists == NONE && owner_busy == NONE && claimer_lists == NONE &&
		claimer_word == NONE -> break
	   }
	od
}

#define OWNER_LISTS (owner_lists != NONE -> owner_lists : lists)

/* Barriers that the owner has passed. After a barrier it reads again what it read early. */
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
		atomic { owner_busy == NONE -> owner_busy = 1; owner_busy_last = false };
#ifdef ENTER_RELAXED
		/* lists may be read before the claim word */
		if
		:: atomic { early = OWNER_LISTS; passed = barriers }
		:: true
		fi;
#endif
		if
		:: atomic { word == FREE ->
			inside++;
			assert(inside == 1)
		   };
		   atomic {
			see = (early != ANY && passed == barriers -> early : OWNER_LISTS);
			assert(see == truth);
			truth = 1 - truth
		   };
		   atomic { owner_lists == NONE -> owner_lists = truth; inside-- };
#ifdef EXIT_RELAXED
		   atomic { owner_busy == NONE -> owner_busy = 0; owner_busy_last = false }
#else
		   atomic { owner_busy == NONE -> owner_busy = 0; owner_busy_last = true }
#endif
		:: word != FREE ->
		   atomic { owner_busy == NONE -> owner_busy = 0; owner_busy_last = true };
		   /* claim_take_back */
		   if
		   :: atomic {
			owner_busy == NONE && owner_lists == NONE && word == PENDING -> word = FREE
		      };
		      goto retry
		   :: atomic {
			owner_busy == NONE && owner_lists == NONE && word != PENDING -> skip
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

active proctype claimer()
{
	byte attempts = ATTEMPTS;
	byte early, see;

	do
	:: attempts > 0 ->
		attempts--;
		early = ANY;
		/* Mark. The mark before is gone, and its holder's store has arrived, because one
		 * store to a word waits for another. */
		if
		:: atomic {
			claimer_word == NONE && claimer_lists == NONE && word == FREE ->
			word = PENDING
		   }
		fi;
#ifndef NO_MEMBARRIER
		atomic { flush(); barriers++ };
#endif
		if
		:: atomic { word == PENDING -> word = HELD };
#ifdef CHECK_RELAXED
			/* lists may be read before busy */
			if
			:: early = lists
			:: true
			fi;
#endif
			if
#ifdef NO_CHECK
			:: atomic { true ->
#else
			:: atomic { busy == 0 ->
#endif
				inside++;
				assert(inside == 1);
				see = (early != ANY -> early : lists);
				assert(see == truth);
				truth = 1 - truth;
				claimer_lists = truth;
				inside--
			   }
#ifndef NO_CHECK
			:: busy != 0 -> skip
#endif
			fi;
#ifdef RELEASE_RELAXED
			atomic { claimer_word = FREE; claimer_word_last = false }
#else
			atomic { claimer_word = FREE; claimer_word_last = true }
#endif
		:: word != PENDING -> skip /* the owner took it back */
		fi
	:: attempts == 0 -> break
	od;
	early = 0;
	see = 0;
	ended++
}
