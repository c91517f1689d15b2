// SPDX-License-Identifier: BSD-2-Clause
//
// Wrong uses of the operators new and delete, one each, as misuse.c has them of malloc and free.
//
// usage: misuse-cxx CASE, or misuse-cxx --list
//
// Compiled by its test, so that the build needs no C++ compiler.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

// Volatile: the compiler must neither warn of these misuses nor make use of them.
static void *volatile victim;
static void *live[4096];
static std::size_t survey_bytes;

static void *fresh(std::size_t bytes)
{
	survey_bytes = bytes;
	for (int i = 0; i < 8; i++)
		static_cast<void>(::operator new(bytes));
	return ::operator new(bytes);
}

// As many blocks as bring all lists of freed ones to light: no two of them share memory.
static bool survey()
{
	std::size_t n = survey_bytes < 10000 ? 4096 : 50;
	bool good = true;

	for (std::size_t i = 0; i < n; i++) {
		live[i] = ::operator new(survey_bytes);
		std::memset(live[i], 0, survey_bytes);
		std::memcpy(live[i], &i, sizeof(i));
	}
	for (std::size_t i = 0; i < n; i++)
		good = good && std::memcmp(live[i], &i, sizeof(i)) == 0;
	for (std::size_t i = 0; i < n; i++)
		::operator delete(live[i]);
	return good;
}

static void twice()
{
	victim = fresh(200);
	::operator delete(victim);
	::operator delete(victim);
}

static void twice_array()
{
	victim = ::operator new[](200);
	survey_bytes = 200;
	::operator delete[](victim);
	::operator delete[](victim);
}

static void middle()
{
	// Where the count of an array with destructors lies.
	victim = static_cast<char *>(fresh(200)) + sizeof(std::size_t);
	::operator delete[](victim);
}

static void sized(std::size_t bytes, std::size_t told)
{
	victim = fresh(bytes);
	::operator delete(victim, told);
}

static void sized_small()
{
	sized(100, 300);
}

static void sized_less()
{
	sized(1000, 100);
}

static void sized_large()
{
	sized(200000, 100);
}

static void sized_array()
{
	survey_bytes = 64;
	victim = ::operator new[](64);
	::operator delete[](victim, 1000);
}

static void sized_aligned(std::size_t bytes, std::size_t told)
{
	survey_bytes = bytes;
	victim = ::operator new(bytes, std::align_val_t(256));
	::operator delete(victim, told, std::align_val_t(256));
}

static void aligned_small()
{
	sized_aligned(1000, 4000);
}

static void aligned_large()
{
	sized_aligned(200000, 1000);
}

static void wrong_align()
{
	victim = fresh(48);
	::operator delete(victim, 48, std::align_val_t(4096));
}

struct misuse {
	const char *name;
	const char *kind;
	void (*run)();
	const char *text;
};

static const misuse cases[] = {
	{ "cxx-twice", "double-near", twice, "operator delete twice" },
	{ "cxx-twice-array", "double-near", twice_array, "operator delete[] twice" },
	{ "cxx-middle", "interior", middle, "operator delete[] 8 bytes into a block" },
	{ "cxx-sized-small", "wrong-size", sized_small, "delete(100 bytes, 300)" },
	{ "cxx-sized-less", "wrong-size", sized_less, "delete(1,000 bytes, 100)" },
	{ "cxx-sized-large", "wrong-size", sized_large, "delete(200,000 bytes, 100)" },
	{ "cxx-sized-array", "wrong-size", sized_array, "delete[](64 bytes, 1,000)" },
	{ "cxx-aligned-small", "wrong-size", aligned_small, "aligned delete(1,000 bytes, 4,000)" },
	{ "cxx-aligned-large", "wrong-size", aligned_large,
	  "aligned delete(200,000 bytes, 1,000)" },
	{ "cxx-wrong-align", "wrong-size", wrong_align, "delete with an alignment it has not" },
};

int main(int argc, char **argv)
{
	const bool list = argc == 2 && std::strcmp(argv[1], "--list") == 0;

	for (const misuse &m : cases) {
		if (list) {
			std::printf("%s %s %s\n", m.name, m.kind, m.text);
		} else if (argc == 2 && std::strcmp(argv[1], m.name) == 0) {
			m.run();
			if (!survey()) {
				std::puts("harm a live block has changed");
				std::fflush(stdout);
				std::_Exit(10);
			}
			std::printf("contained %s\n", m.name);
			return 0;
		}
	}
	return list ? 0 : 2;
}
