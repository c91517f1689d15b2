/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A program with operators of its own for some forms. All others come by way of these, so it sees
 * each byte, and gets back what it gave. Its blocks have a header, so that nobody else's free can
 * take them.
 *
 * Compiled by its tests, so that the build needs no C++ compiler. SHARED: there is a runtime that
 * is not linked in.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

namespace
{
size_t live;
size_t faults;
bool refuse;
struct header {
	size_t magic, size;
	void *block;
	size_t pad;
};
static_assert(sizeof(header) == 32, "keeps blocks aligned to 16");

void *give(size_t size, size_t align)
{
	char *block = static_cast<char *>(refuse ? nullptr
						 : std::malloc(size + sizeof(header) + align));

	if (!block)
		throw std::bad_alloc();
	char *p = block + sizeof(header);
	p += -reinterpret_cast<size_t>(p) & (align - 1);
	header h = { 0x1234567, size, block, 0 };
	std::memcpy(p - sizeof(header), &h, sizeof(header));
	live += size;
	return p;
}

void take(void *p)
{
	header h;

	if (!p)
		return;
	std::memcpy(&h, static_cast<char *>(p) - sizeof(header), sizeof(header));
	if (h.magic != 0x1234567) {
		faults++;
		return;
	}
	live -= h.size;
	std::free(h.block);
}

void is(size_t want, const char *after)
{
	if (live == want)
		return;
	faults++;
	std::printf("%zu bytes live after %s, not %zu\n", live, after, want);
}

struct object {
	char bytes[40];
	~object()
	{
		asm volatile("" : : "r"(this) : "memory");
	}
};
struct alignas(64) wide {
	char bytes[128];
	~wide()
	{
		asm volatile("" : : "r"(this) : "memory");
	}
};
} // namespace

void *operator new(size_t size)
{
	return give(size, 16);
}
void operator delete(void *p) noexcept
{
	take(p);
}
void *operator new(size_t size, std::align_val_t align)
{
	return give(size, static_cast<size_t>(align));
}
void operator delete(void *p, std::align_val_t) noexcept
{
	take(p);
}

template <class T> static void forms()
{
	T *p = new T;
	is(sizeof(T), "new");
	delete p;
	is(0, "delete");
	p = new T[5];
	if (live < 5 * sizeof(T))
		faults++;
	delete[] p;
	is(0, "delete[]");
	p = new (std::nothrow) T;
	is(sizeof(T), "nothrow new");
	delete p;
	p = new (std::nothrow) T[5];
	if (live < 5 * sizeof(T))
		faults++;
	delete[] p;
	is(0, "nothrow new[]");
#ifdef SHARED /* without a runtime's form nobody catches what the program throws */
	refuse = true;
	p = new (std::nothrow) T[5];
	refuse = false;
	if (p)
		faults++;
	is(0, "a nothrow form of an operator that throws");
#endif
}

int main()
{
	forms<object>();
	forms<wide>();
	::operator delete(::operator new(10), std::nothrow);
	::operator delete[](::operator new[](10), std::nothrow);
	::operator delete(::operator new(10), size_t(10));
	::operator delete[](::operator new[](10), size_t(10));
	std::align_val_t a{ 256 };
	::operator delete(::operator new(10, a), a, std::nothrow);
	::operator delete[](::operator new[](10, a), a, std::nothrow);
	::operator delete(::operator new(10, a), size_t(10), a);
	::operator delete[](::operator new[](10, a), size_t(10), a);
	is(0, "all forms of delete");
	{
		std::vector<std::string> v(100, std::string(100, 'x'));

		if (live < 100 * 100)
			faults++;
	}
	is(0, "containers");
	std::printf("%zu faults\n", faults);
	return faults != 0;
}
