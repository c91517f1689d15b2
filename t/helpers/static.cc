/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * C++ without memory in a program that is linked statically, and the same as a plug-in of a C
 * program (plug_go). Its catch clause is chosen when it is compiled, because the linker takes only
 * those parts of the runtime that are named:
 *
 *   CATCH=1 std::bad_alloc, 2 std::exception, 3 anything
 *
 * No header of a C++ library is used, so a compiler without those headers is enough.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

namespace std
{
class exception
{
      public:
	exception() noexcept
	{
	}
	virtual ~exception() noexcept;
	virtual const char *what() const noexcept;
};
class bad_alloc : public exception
{
      public:
	bad_alloc() noexcept
	{
	}
	virtual ~bad_alloc() noexcept;
	virtual const char *what() const noexcept;
};
struct nothrow_t {
};
extern const nothrow_t nothrow;
enum class align_val_t : size_t {};
typedef void (*new_handler)();
new_handler set_new_handler(new_handler) noexcept;
} // namespace std

void *operator new(size_t, const std::nothrow_t &) noexcept;
void *operator new[](size_t, const std::nothrow_t &) noexcept;
void *operator new(size_t, std::align_val_t);
void *operator new[](size_t, std::align_val_t);
void *operator new(size_t, std::align_val_t, const std::nothrow_t &) noexcept;

#if CATCH == 1
#define CAUGHT std::bad_alloc &
#elif CATCH == 2
#define CAUGHT std::exception &
#else
#define CAUGHT ...
#endif

static volatile size_t too_much = (size_t)1 << 50;
static int faults;

/* Whether unwinding destroys all objects of a frame. */
struct guard {
	int *n;
	~guard()
	{
		++*n;
	}
};

static void *allocate(int form, size_t n)
{
	switch (form) {
	case 0:
		return ::operator new(n);
	case 1:
		return ::operator new[](n);
	case 2:
		return ::operator new(n, std::align_val_t(256));
	default:
		return ::operator new[](n, std::align_val_t(4096));
	}
}

static void throws(int form, size_t n)
{
	int destroyed = 0;

	try {
		guard g = { &destroyed };
		void *volatile p = allocate(form, n);

		printf("form %d: got %p\n", form, p);
		faults++;
	} catch (CAUGHT) {
		faults += destroyed != 1;
		return;
	}
	faults++;
}

static void all()
{
	for (int form = 0; form < 4; form++) {
		throws(form, too_much);
		throws(form, SIZE_MAX);
		throws(form, (size_t)PTRDIFF_MAX + 1);
	}
	void *p[3] = { ::operator new(too_much, std::nothrow),
		       ::operator new[](too_much, std::nothrow),
		       ::operator new(too_much, std::align_val_t(64), std::nothrow) };
	for (int i = 0; i < 3; i++)
		faults += p[i] != nullptr;
	char *volatile q = new char[100];
	delete[] q;
}

#ifdef HANDLER
static int calls;
static void handler()
{
	if (++calls % 3 == 0)
		std::set_new_handler(nullptr);
}

static void with_handler()
{
	std::set_new_handler(handler);
	throws(0, too_much);
	std::set_new_handler(handler);
	faults += ::operator new(too_much, std::nothrow) != nullptr;
	faults += calls != 6;
}
#endif

extern "C" int plug_go()
{
	all();
#ifdef HANDLER
	with_handler();
#endif
	printf("%d faults\n", faults);
	fflush(stdout);
	return faults != 0;
}

#ifndef PLUG
int main()
{
	return plug_go();
}
#endif
