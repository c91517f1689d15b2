/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How ordinary threads wait for a lock (src/base/lock.c): take it when it is free, else mark it,
 * check again and sleep. A release wakes one sleeper, and no other until that one has run. One
 * thread may give up while it waits, as for a fork or a stuck holder.
 *
 * Memory is sequentially consistent: the four steps that matter (mark and check of a waiter,
 * release and check of a holder) are so in the code.
 *
 * Checked: two threads never hold the lock; no thread stays asleep while it is free for good (else
 * the model is stuck, because it has no timeouts); at the end it is free and no thread counts as a
 * sleeper.
 *
 * Broken twins, each of which must be caught:
 *   NO_WAKE        a release does not check for sleepers
 *   EARLY_LOOK     a release checks for sleepers before it frees the lock
 *   NO_LOOK        a waiter does not check the word again after it has marked the lock
 *   BLIND_SLEEP    a waiter sleeps without comparing the mark, as a futex does
 *   NO_COUNT       a waiter compares the mark alone, which a thread that gave up may have cleared
 *                  and another set again
 *   NO_MARK_AGAIN  a woken thread that takes the lock does not mark it for the other sleepers
 *   KEEP_WAKE      a thread that gives up keeps a wake-up that was meant for another sleeper
 *   BLIND_TAKE     the word is tested and written in two steps
 */

#define THREADS 3
#define ROUNDS 2

bool word;      /* somebody holds it */
bool mark;      /* LOCK_SLEEPERS */
byte count;     /* LOCK_WAKES, modulo 8: how often the mark was cleared */
byte sleepers;  /* as counted */
byte inside;
bool asleep[THREADS];

/* FUTEX_WAKE of one thread, any. */
inline wake_one()
{
	if
	:: asleep[0] -> asleep[0] = false
	:: asleep[1] -> asleep[1] = false
	:: asleep[2] -> asleep[2] = false
	:: !asleep[0] && !asleep[1] && !asleep[2] -> skip
	fi
}

inline try_take()
{
#ifdef BLIND_TAKE
	got = !word;
	if
	:: got -> word = true
	:: else -> skip
	fi
#else
	atomic {
		got = !word;
		if
		:: got -> word = true
		:: else -> skip
		fi
	}
#endif
}

proctype thread(byte me; bool impatient)
{
	byte n = ROUNDS;
	bool got;
	bool seen;
	bool others;
	bool gave_up;
	byte counted;

	do
	:: n == 0 -> break
	:: n > 0 ->
		n--;
		gave_up = false;
		try_take();
		if
		:: got -> skip
		:: !got ->
			sleepers++;
			do
			:: true ->
				atomic { mark = true; counted = count };
#ifndef NO_LOOK
				seen = word;
				if
				:: !seen -> skip
				:: seen ->
#endif
					/* FUTEX_WAIT compares and sleeps in one step. */
#ifdef BLIND_SLEEP
					asleep[me] = true;
#else
					atomic {
						if
#ifdef NO_COUNT
						:: mark -> asleep[me] = true
#else
						:: mark && counted == count -> asleep[me] = true
#endif
						:: else -> skip
						fi
					};
#endif
					if
					:: !asleep[me] -> skip
					/* a timeout, or a signal */
					:: impatient -> asleep[me] = false
					fi
#ifndef NO_LOOK
				fi
#endif
				;
				try_take();
				if
				:: got -> break
				:: !got && impatient -> gave_up = true; break
				:: !got -> skip
				fi
			od;
			atomic { sleepers--; others = sleepers > 0 };
#ifndef NO_MARK_AGAIN
#ifdef KEEP_WAKE
			others = others && got;
#endif
			if
			:: others ->
				mark = true;
				if
				:: gave_up ->
					seen = word;
					if
					:: !seen -> atomic { wake_one() }
					:: seen -> skip
					fi
				:: !gave_up -> skip
				fi
			:: !others -> skip
			fi
#endif
		fi;
		if
		:: gave_up -> skip
		:: !gave_up ->
			inside++;
			assert(inside == 1);
			inside--;
#ifdef EARLY_LOOK
			seen = mark;
			word = false;
#else
			word = false;
			seen = mark;
#endif
#ifndef NO_WAKE
			if
			:: seen ->
				atomic { seen = mark; mark = false; count = (count + 1) % 8 };
				if
				:: seen -> atomic { wake_one() }
				:: !seen -> skip
				fi
			:: !seen -> skip
			fi
#endif
		fi
	od
}

active proctype main()
{
	atomic {
		run thread(0, false);
		run thread(1, false);
		run thread(2, true)
	};
	(_nr_pr == 1);
	assert(!word && sleepers == 0)
}
