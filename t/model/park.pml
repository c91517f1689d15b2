/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How the background thread sleeps without a timer (src/base/park.h, park() in
 * src/reclaim/background.c): two threads that cache something and read the park word without a
 * barrier, and the thread that parks.
 *
 * Memory is that of x86-64 (TSO): stores of the threads that cache go through a buffer of their
 * own, and membarrier empties both.
 *
 * With -DWEAK memory is that of arm64: the exchange is only a release, and does not wait for the
 * buffer before it is visible. (The buffers make the loads early, which is all that can differ with
 * two words.)
 *
 * Checked: the thread does not stay asleep while something is cached.
 *
 * Broken twins, each of which must be caught:
 *   NO_BARRIER      no membarrier between setting the word and the second check
 *   NO_SECOND_LOOK  the thread checks only before it sets the word
 *   BLIND_SLEEP     the thread sleeps without comparing the word, as a futex does
 *   LATE_LOOK       a thread that caches reads the word first, and then caches
 */

#define ROUNDS 2

bool cached[2];
bool park_word;
bool asleep;
byte ended;

/* Of cached. */
chan buffer[2] = [2] of { bool };

#define ANYTHING (cached[0] || cached[1])

active proctype memory()
{
	do
	:: buffer[0]?cached[0]
	:: buffer[1]?cached[1]
	:: atomic { ended == 3 && empty(buffer[0]) && empty(buffer[1]) -> break }
	od
}

proctype cacher(byte me)
{
	byte n = ROUNDS;
	bool word;

	do
	:: n > 0 ->
		n--;
#ifdef LATE_LOOK
		word = park_word;
		buffer[me]!true;
#else
		buffer[me]!true;
		word = park_word;
#endif
		/* park_wake_slow: the exchange waits for the buffer, or not */
#ifdef WEAK
#define ARRIVED true
#else
#define ARRIVED empty(buffer[me])
#endif
		if
		:: word ->
			if
			:: atomic { ARRIVED && park_word -> park_word = false };
				asleep = false
			:: atomic { ARRIVED && !park_word -> skip }
			fi
		:: else
		fi
	:: else -> break
	od;
	ended++
}

init {
	atomic { run cacher(0); run cacher(1) }
}

/* What the thread does while awake: then nothing is cached until another thread caches again. */
active proctype background()
{
	do
	:: ANYTHING ->
		if
		:: cached[0] -> cached[0] = false
		:: cached[1] -> cached[1] = false
		fi
	:: !ANYTHING ->
		park_word = true;
#ifndef NO_BARRIER
		atomic {
			do
			:: buffer[0]?cached[0]
			:: buffer[1]?cached[1]
			:: empty(buffer[0]) && empty(buffer[1]) -> break
			od
		};
#endif
		if
#ifdef NO_SECOND_LOOK
		:: true ->
#else
		:: ANYTHING -> park_word = false
		:: !ANYTHING ->
#endif
			do
#ifdef BLIND_SLEEP
			:: park_word -> asleep = true; !asleep || ended == 2
#else
			:: atomic { park_word -> asleep = true }; !asleep || ended == 2
#endif
				if
				:: asleep -> goto over
				:: else
				fi
			:: !park_word -> break
			od
		fi
	:: ended == 2 && !ANYTHING && empty(buffer[0]) && empty(buffer[1]) -> break
	od;
over:
	/* No thread calls any more; it sleeps, or has nothing to do. */
	atomic { empty(buffer[0]) && empty(buffer[1]) -> assert(!ANYTHING) };
	ended++
}
