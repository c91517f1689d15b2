/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All forms of operator new and delete, and what they do when there is no
 * memory.
 *
 * usage: operators CASE
 *
 * With OPERATORS_LIB set every form must come from that object. Compiled by
 * its test, so that the build needs no C++ compiler.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <sys/resource.h>

#include <atomic>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

static const char *const names[] = {
	/* new: plain, array, nothrow, aligned, aligned and nothrow */
	"_Znwm", "_Znam", "_ZnwmRKSt9nothrow_t", "_ZnamRKSt9nothrow_t", "_ZnwmSt11align_val_t",
	"_ZnamSt11align_val_t", "_ZnwmSt11align_val_tRKSt9nothrow_t",
	"_ZnamSt11align_val_tRKSt9nothrow_t",
	/* delete: plain, sized, nothrow, and the same aligned */
	"_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm", "_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t",
	"_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t", "_ZdlPvmSt11align_val_t",
	"_ZdaPvmSt11align_val_t", "_ZdlPvSt11align_val_tRKSt9nothrow_t",
	"_ZdaPvSt11align_val_tRKSt9nothrow_t"
};

static void symbols()
{
	const char *lib = getenv("OPERATORS_LIB");

	for (const char *name : names) {
		void *f = dlsym(RTLD_DEFAULT, name);
		Dl_info info = {};

		CHECK(f != nullptr, "%s is missing", name);
		if (lib != nullptr)
			CHECK(f != nullptr && dladdr(f, &info) != 0 &&
				      strcmp(info.dli_fname, lib) == 0,
			      "%s comes from %s", name, f != nullptr ? info.dli_fname : "nowhere");
	}
}

/* What every block must be. */
static void look(void *p, size_t n, size_t alignment, const char *form)
{
	CHECK(p != nullptr, "%s of %zu", form, n);
	CHECK((reinterpret_cast<uintptr_t>(p) & (alignment - 1)) == 0, "%s of %zu, aligned %zu: %p",
	      form, n, alignment, p);
	helper_fill(p, n, n);
	CHECK(helper_verify(p, n, n) == n, "%s of %zu", form, n);
}

static void forms()
{
	for (int round = 0; round < 20; round++)
		for (size_t n : { 0ul, 1ul, 7ul, 16ul, 24ul, 100ul, 1000ul, 5000ul, 33000ul,
				  200000ul, 3000000ul }) {
			void *p = ::operator new(n), *q = ::operator new(n);

			look(p, n, 16, "new");
			CHECK(p != q, "two blocks of %zu in one place", n);
			::operator delete(p);
			::operator delete(q, n);
			p = ::operator new[](n);
			look(p, n, 16, "new[]");
			::operator delete[](p);
			p = ::operator new[](n);
			::operator delete[](p, n);
			p = ::operator new(n, std::nothrow);
			look(p, n, 16, "nothrow new");
			::operator delete(p, std::nothrow);
			p = ::operator new[](n, std::nothrow);
			look(p, n, 16, "nothrow new[]");
			::operator delete[](p, std::nothrow);
			for (size_t a = 1; a <= 65536; a *= 4) {
				std::align_val_t al{ a };

				p = ::operator new(n, al);
				look(p, n, a, "aligned new");
				::operator delete(p, al);
				p = ::operator new(n, al);
				::operator delete(p, n, al);
				p = ::operator new[](n, al);
				look(p, n, a, "aligned new[]");
				::operator delete[](p, al);
				p = ::operator new[](n, al);
				::operator delete[](p, n, al);
				p = ::operator new(n, al, std::nothrow);
				look(p, n, a, "aligned nothrow new");
				::operator delete(p, al, std::nothrow);
				p = ::operator new[](n, al, std::nothrow);
				look(p, n, a, "aligned nothrow new[]");
				::operator delete[](p, al, std::nothrow);
			}
		}
	::operator delete(nullptr);
	::operator delete[](nullptr);
	::operator delete(nullptr, std::nothrow);
	::operator delete(nullptr, static_cast<size_t>(100));
	::operator delete (nullptr, std::align_val_t{ 64 });
	::operator delete (nullptr, static_cast<size_t>(0), std::align_val_t{ 64 });
	CHECK(helper_rss_kib() < 100 * 1024, "a form of delete does not free: %ld KiB",
	      helper_rss_kib());
}

/* ---- when there is no memory ---------------------------------------------------------------- */

static int handler_calls;

static void handler_gives_up()
{
	if (++handler_calls == 3)
		std::set_new_handler(nullptr);
}

static void handler_throws()
{
	handler_calls++;
	throw std::bad_alloc();
}

struct own_exception {
};

static void handler_throws_other()
{
	handler_calls++;
	throw own_exception();
}

/* More than there can be, hidden from the compiler. */
static volatile size_t too_much = PTRDIFF_MAX - 4096;

enum outcome { GAVE, NULLPTR, BAD_ALLOC, OTHER };

template <typename F> static outcome outcome_of(F f)
{
	try {
		void *p = f();
		return p == nullptr ? NULLPTR : GAVE;
	} catch (const std::bad_alloc &) {
		return BAD_ALLOC;
	} catch (...) {
		return OTHER;
	}
}

/* Each form without a handler, with one that gives up, with one that throws. */
template <typename F> static void fails(const char *form, bool nothrow, F f)
{
	outcome want = nothrow ? NULLPTR : BAD_ALLOC;

	std::set_new_handler(nullptr);
	CHECK(outcome_of(f) == want, "%s without a handler: %d", form, outcome_of(f));

	handler_calls = 0;
	std::set_new_handler(handler_gives_up);
	outcome got = outcome_of(f);
	CHECK(got == want, "%s with a handler: %d", form, got);
	CHECK(handler_calls == 3, "%s called the handler %d times", form, handler_calls);

	handler_calls = 0;
	std::set_new_handler(handler_throws);
	got = outcome_of(f);
	CHECK(got == want && handler_calls == 1, "%s with a handler that throws: %d, %d calls",
	      form, got, handler_calls);

	if (!nothrow) {
		std::set_new_handler(handler_throws_other);
		CHECK(outcome_of(f) == OTHER, "%s swallowed the handler's own exception", form);
	}
	std::set_new_handler(nullptr);
	void *p = ::operator new(100);
	CHECK(p != nullptr, "new after %s failed", form);
	::operator delete(p);
}

static void no_memory()
{
	for (size_t n : { too_much + 0, static_cast<size_t>(SIZE_MAX),
			  static_cast<size_t>(PTRDIFF_MAX) + 1 }) {
		std::align_val_t al{ 64 };

		fails("new", false, [=] { return ::operator new(n); });
		fails("new[]", false, [=] { return ::operator new[](n); });
		fails("aligned new", false, [=] { return ::operator new(n, al); });
		fails("aligned new[]", false, [=] { return ::operator new[](n, al); });
		fails("nothrow new", true, [=] { return ::operator new(n, std::nothrow); });
		fails("nothrow new[]", true, [=] { return ::operator new[](n, std::nothrow); });
		fails("aligned nothrow new", true,
		      [=] { return ::operator new(n, al, std::nothrow); });
		fails("aligned nothrow new[]", true,
		      [=] { return ::operator new[](n, al, std::nothrow); });
	}
	fails("vector", false, [] {
		std::vector<char> v(too_much);
		return static_cast<void *>(v.data());
	});
}

/* A handler that makes room: the same request succeeds then. */
static rlim_t data_limit;

static void set_data_limit(rlim_t bytes)
{
	struct rlimit r;

	getrlimit(RLIMIT_DATA, &r);
	r.rlim_cur = bytes;
	setrlimit(RLIMIT_DATA, &r);
}

static void handler_raises_limit()
{
	handler_calls++;
	set_data_limit(data_limit);
	if (handler_calls > 100)
		std::set_new_handler(nullptr);
}

static void handler_helps()
{
	const size_t n = static_cast<size_t>(768) << 20; /* never touched */
	const std::align_val_t al{ 4096 };
	struct rlimit r;

	getrlimit(RLIMIT_DATA, &r);
	data_limit = r.rlim_cur;
	handler_calls = 0;
	std::set_new_handler(handler_raises_limit);
	for (int form = 0; form < 8; form++) {
		void *p = nullptr;

		set_data_limit(static_cast<rlim_t>(512) << 20);
		switch (form) {
		case 0:
			p = ::operator new(n);
			break;
		case 1:
			p = ::operator new[](n);
			break;
		case 2:
			p = ::operator new(n, std::nothrow);
			break;
		case 3:
			p = ::operator new[](n, std::nothrow);
			break;
		case 4:
			p = ::operator new(n, al);
			break;
		case 5:
			p = ::operator new[](n, al);
			break;
		case 6:
			p = ::operator new(n, al, std::nothrow);
			break;
		case 7:
			p = ::operator new[](n, al, std::nothrow);
			break;
		}
		CHECK(p != nullptr && handler_calls == form + 1, "form %d: %p after %d calls", form,
		      p, handler_calls);
		if (form >= 4)
			CHECK((reinterpret_cast<uintptr_t>(p) & 4095) == 0, "form %d: %p", form, p);
		::operator delete(p);
	}
	set_data_limit(data_limit);
	std::set_new_handler(nullptr);
}

/* ---- a program that uses them --------------------------------------------------------------- */

static void containers_of(unsigned seed)
{
	std::map<std::string, std::vector<std::unique_ptr<std::string>>> m;
	uint64_t state = seed;

	for (int i = 0; i < 20000; i++) {
		std::string key = "key number " + std::to_string(helper_random(&state) % 500);
		m[key].push_back(std::make_unique<std::string>(static_cast<size_t>(
								       helper_random(&state) % 300),
							       'x'));
		if (i % 7 == 0)
			m.erase(m.begin());
	}
	for (auto &e : m)
		for (auto &s : e.second)
			CHECK(s->find_first_not_of('x') == std::string::npos, "a string changed");
}

struct alignas(256) wide {
	char c[256];
};

static void containers()
{
	std::vector<std::thread> all;

	for (unsigned i = 1; i <= 4; i++)
		all.emplace_back(containers_of, i);
	for (auto &t : all)
		t.join();
	for (int i = 0; i < 1000; i++) {
		auto w = std::make_unique<wide[]>(static_cast<size_t>(i % 17 + 1));
		CHECK((reinterpret_cast<uintptr_t>(w.get()) & 255) == 0,
		      "an over-aligned array at %p", static_cast<void *>(w.get()));
	}
}

/* ---- thread_local objects ------------------------------------------------------------------- */

static std::atomic<int> destroyed;

struct local {
	std::vector<std::string> v;
	std::unique_ptr<char[]> big;

	local() : v(100, "forty characters, so that it is allocated"), big(new char[300000])
	{
		big[299999] = 'z';
	}
	~local();
	void touch()
	{
		v.emplace_back("forty characters, so that it is allocated");
	}
};

static thread_local local second_local; /* made by the destructor of the first */
static thread_local std::unique_ptr<local> first_local;

local::~local()
{
	CHECK(big[299999] == 'z' && v.size() >= 100, "a thread_local object was lost");
	for (auto &s : v)
		CHECK(s[0] == 'f', "a string of a thread_local object changed");
	std::vector<int> more(5000, 1);
	CHECK(more[4999] == 1, "allocation in a destructor");
	if (destroyed++ % 2 == 0)
		second_local.touch();
}

static void thread_locals()
{
	long base = 0;

	for (int i = 0; i < 600; i++) {
		if (i == 100)
			base = helper_rss_kib();
		std::thread([] { first_local = std::make_unique<local>(); }).join();
	}
	CHECK(destroyed == 1200, "%d objects destroyed", destroyed.load());
	CHECK(helper_rss_kib() - base < 4096, "500 threads: %ld KiB more", helper_rss_kib() - base);
	first_local = std::make_unique<local>(); /* the initial thread's ends with the process */
}

static const struct {
	const char *name;
	void (*run)();
} cases[] = {
	{ "symbols", symbols },       { "forms", forms },
	{ "no-memory", no_memory },   { "handler-helps", handler_helps },
	{ "containers", containers }, { "thread-locals", thread_locals },
};

int main(int argc, char **argv)
{
	for (auto &c : cases)
		if (argc == 2 && strcmp(c.name, argv[1]) == 0) {
			c.run();
			return helper_end();
		}
	fprintf(stderr, "usage: operators CASE\n");
	return 2;
}
