/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs that reach a limit of memory.
 *
 * usage: limits exhaust MEMBER MIB   allocates until NULL under the limits that the script has set;
 *                                    at least MIB must succeed; then frees all and allocates again
 *        limits faults [MIB]         a mapping of the library fails at a place that the script sets
 *        limits churn                8 threads grow and purge alternately
 *        limits fill SIZE PERCENT    allocates blocks of one size until NULL, three times; they
 *                                    and the rest of the process must reach PERCENT of the limit;
 *                                    when all is freed, half of it can be allocated in one piece
 *        limits measure SIZE         the same once, with its cost; no check (the tables of
 *                                    doc/reclaim.md)
 *        limits late MIB             what a program that uses MIB can do after it has set a limit
 *        limits mappings LEFT MIB [SIZE]
 *                                    the process has no mapping but LEFT (vm.max_map_count), and
 *                                    allocates MIB in blocks of SIZE, or of up to 1 MiB, some of
 *                                    these by realloc; ends with status 77 if the kernel allows too
 *                                    many
 *        limits away MIB             the program takes address space that the library gave up under
 *                                    a limit: nothing of it may count as the library's
 *
 * exhaust and faults print on stderr how many requests failed.
 */
#include "lib/check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static const char *const members[] = { "malloc",         "calloc",        "realloc",
				       "reallocarray",   "aligned_alloc", "memalign",
				       "posix_memalign", "valloc",        "pvalloc" };
enum { MEMBERS = sizeof members / sizeof *members };

static unsigned long refused;

/* One request by the function of this name. NULL must come with ENOMEM; otherwise errno must be
 * unchanged. */
static void *request(int member, size_t n)
{
	void *p = NULL;
	int e;

	errno = 0;
	switch (member) {
	case 0:
		p = malloc(n);
		break;
	case 1:
		p = calloc(n / 8 + 1, 8);
		break;
	case 2:
		p = realloc(NULL, n);
		break;
	case 3:
		p = reallocarray(NULL, n / 8 + 1, 8);
		break;
	case 4:
		p = aligned_alloc(64, n);
		break;
	case 5:
		p = memalign(256, n);
		break;
	case 6:
		e = posix_memalign(&p, 1024, n);
		CHECK(e == 0 || e == ENOMEM, "posix_memalign: %d", e);
		CHECK((e == 0) == (p != NULL), "posix_memalign: %d and %p", e, p);
		if (e != 0)
			errno = e;
		break;
	case 7:
		p = valloc(n);
		break;
	case 8:
		p = pvalloc(n);
		break;
	}
	e = errno;
	if (p == NULL) {
		CHECK(e == ENOMEM, "%s(%zu) = NULL with errno %d", members[member], n, e);
		refused++;
	} else {
		CHECK(e == 0, "%s(%zu) worked and set errno to %d", members[member], n, e);
	}
	return p;
}

/* The first word of each block links the list, so the list needs no memory of its own. */
struct node {
	struct node *next;
	size_t size;
};

static struct node *all;

static const size_t exhaust_sizes[] = { 5 << 20, 700000, 200000, 40000, 9000, 1000, 100, 16 };
enum { EXHAUST_SIZES = sizeof exhaust_sizes / sizeof *exhaust_sizes };

/* Allocates large blocks until it gets NULL, then smaller ones, down to 16 bytes. Returns the
 * bytes obtained. */
static size_t take_all(int member)
{
	size_t total = 0;

	for (int s = 0; s < EXHAUST_SIZES; s++) {
		struct node *p;

		while ((p = request(member, exhaust_sizes[s])) != NULL) {
			p->next = all;
			p->size = exhaust_sizes[s];
			all = p;
			total += p->size;
			if (p->size > sizeof *p)
				((char *)p)[p->size - 1] = 'e';
			if (total > (size_t)64 << 30)
				return total; /* there is no limit */
		}
	}
	return total;
}

static void free_all(void)
{
	while (all != NULL) {
		struct node *p = all;

		CHECK(p->size == sizeof *p || ((char *)p)[p->size - 1] == 'e', "a block was lost");
		all = p->next;
		free(p);
	}
}

static int exhaust(const char *name, size_t mib)
{
	int member = 0;

	while (member < MEMBERS && strcmp(members[member], name) != 0)
		member++;
	if (member == MEMBERS)
		return 2;
	size_t first = take_all(member);
	CHECK(refused >= EXHAUST_SIZES, "%lu requests refused", refused);
	CHECK(first >= mib << 20, "%zu KiB could be allocated", first >> 10);
	/* each other function is refused as well, and the existing blocks can still be used */
	for (int m = 0; m < MEMBERS; m++)
		CHECK(request(m, 50 << 20) == NULL, "%s(50 MiB) came from somewhere", members[m]);
	if (all != NULL) {
		void *p = realloc(all, 100 << 20);
		CHECK(p == NULL && errno == ENOMEM, "realloc: %p, errno %d", p, errno);
	}
	free_all();
	for (int round = 0; round < 2; round++) {
		size_t again = take_all(member);
		CHECK(again >= first / 10 * 8, "%zu KiB at first, %zu KiB after all was freed",
		      first >> 10, again >> 10);
		free_all();
	}
	free_all();
	malloc_trim(0);
	free(request(member, 20 << 20));
	fprintf(stderr, "%s: %zu KiB, %lu requests refused\n", name, first >> 10, refused);
	return helper_end();
}

/* ---- a mapping of the library fails ---------------------------------------------------------- */

enum { KEPT = 4096 };
static unsigned char *kept[KEPT];
static size_t kept_size[KEPT];
static int kept_n;

static void keep(unsigned char *p, size_t n)
{
	if (p == NULL)
		return;
	if (kept_n == KEPT) {
		free(p);
		return;
	}
	helper_fill(p, n < 4096 ? n : 4096, n);
	p[n - 1] = 0x77;
	kept[kept_n] = p;
	kept_size[kept_n++] = n;
}

static void look_at_kept(void)
{
	for (int i = 0; i < kept_n; i++) {
		size_t n = kept_size[i], head = n <= 4096 ? n - 1 : 4096;

		CHECK(helper_verify(kept[i], head, n) == head && kept[i][n - 1] == 0x77,
		      "block %d of %zu bytes lost its data", i, n);
	}
}

/* Resizes a block up and down. If that is refused, the old block must be unchanged. */
static void fault_realloc(size_t from, size_t to)
{
	unsigned char *p = request(0, from), *q;

	if (p == NULL)
		return;
	size_t least = from < to ? from : to;
	helper_fill(p, from, 3);
	errno = 0;
	q = realloc(p, to);
	if (q == NULL) {
		CHECK(errno == ENOMEM, "realloc to %zu: errno %d", to, errno);
		CHECK(helper_verify(p, from, 3) == from, "a refused realloc changed the block");
		refused++;
		free(p);
		return;
	}
	CHECK(helper_verify(q, least, 3) == least, "realloc from %zu to %zu lost data", from, to);
	if (to > from)
		memset(q + from, 0x33, to - from);
	free(q);
}

static void *fault_thread(void *arg)
{
	for (size_t n = 16; n < 4 << 20; n = n * 3 + 5)
		free(request((int)(intptr_t)arg, n));
	return NULL;
}

static void fault_threads(void)
{
	pthread_t t[3];

	for (intptr_t i = 0; i < 3; i++)
		if (pthread_create(&t[i], NULL, fault_thread, (void *)i) != 0)
			t[i] = 0; /* the kernel may refuse the thread's stack */
	for (int i = 0; i < 3; i++)
		if (t[i] != 0)
			pthread_join(t[i], NULL);
}

static int faults(void)
{
	static const size_t sizes[] = { 16, 500, 5000, 33000, 100000, 600000, 3000000, 70000000 };

	for (int round = 0; round < 3; round++) {
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
			for (int m = 0; m < MEMBERS; m++) {
				unsigned char *p = request(m, sizes[s]);

				if (sizes[s] > 10000000)
					free(p);
				else
					keep(p, sizes[s]);
			}
		fault_realloc(10, 100000);
		fault_realloc(100000, 3000000);
		fault_realloc(5000000, 40000000);
		fault_realloc(40000000, 100000);
		fault_realloc(3000000, 20);
		fault_threads();
		look_at_kept();
		malloc_trim(0);
		look_at_kept();
	}
	for (int i = 0; i < kept_n; i++)
		free(kept[i]);
	kept_n = 0;
	unsigned long during = refused;

	/* The failures end at some time; from then on everything works. */
	if (getenv("FAULTS_END") != NULL) {
		void *p = NULL;

		for (int i = 0; i < 100 && (p = request(0, 90000000)) == NULL; i++)
			;
		free(p);
		for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
			for (int m = 0; m < MEMBERS; m++) {
				p = request(m, sizes[s]);
				CHECK(p != NULL, "%s(%zu) after the faults", members[m], sizes[s]);
				free(p);
			}
	}
	fprintf(stderr, "refused %lu\n", during);
	return helper_end();
}

/* ---- grow and purge in turn ------------------------------------------------------------------ */

enum { CHURN_THREADS = 8, CHURN_ROUNDS = 25, CHURN_BLOCKS = 400 };
static pthread_barrier_t barrier;

static void *churn_thread(void *arg)
{
	uint64_t seed = (uint64_t)(intptr_t)arg * 77 + 1;
	static _Thread_local unsigned char *p[CHURN_BLOCKS];

	for (int round = 0; round < CHURN_ROUNDS; round++) {
		for (int i = 0; i < CHURN_BLOCKS; i++) {
			uint64_t r = helper_random(&seed);
			size_t n = r & 7 ? r / 8 % 20000 + 1 : r / 8 % 300000 + 1;

			if ((r >> 32) % 50 == 0)
				n = r / 8 % 3000000 + 1;
			p[i] = malloc(n);
			CHECK(p[i] != NULL, "malloc(%zu) in round %d", n, round);
			if (p[i] != NULL)
				p[i][0] = p[i][n - 1] = (unsigned char)i;
		}
		/* half of it in another order, then the rest */
		for (int i = round % 2; i < CHURN_BLOCKS; i += 2)
			free(p[i]);
		pthread_barrier_wait(&barrier);
		if ((int)(intptr_t)arg == round % CHURN_THREADS)
			malloc_trim(0);
		pthread_barrier_wait(&barrier);
		for (int i = 1 - round % 2; i < CHURN_BLOCKS; i += 2) {
			CHECK(p[i] == NULL || p[i][0] == (unsigned char)i, "block %d changed", i);
			free(p[i]);
		}
	}
	return NULL;
}

static int churn(void)
{
	pthread_t t[CHURN_THREADS];
	int before = helper_mappings(), most = 0;

	pthread_barrier_init(&barrier, NULL, CHURN_THREADS + 1);
	for (intptr_t i = 0; i < CHURN_THREADS; i++)
		if (pthread_create(&t[i], NULL, churn_thread, (void *)i) != 0)
			return 98;
	for (int round = 0; round < CHURN_ROUNDS; round++) {
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		int now = helper_mappings();
		most = now > most ? now : most;
	}
	for (int i = 0; i < CHURN_THREADS; i++)
		pthread_join(t[i], NULL);
	fprintf(stderr, "mappings: %d before, at most %d\n", before, most);
	/* two for the stack of each thread; a large block may have one, too */
	CHECK(most < before + 2 * CHURN_THREADS + 100, "%d mappings, %d before", most, before);
	return helper_end();
}

/* ---- one size up to the limit ---------------------------------------------------------------- */

/* Returns a line of /proc/self/status, in KiB, without an allocation. */
static size_t status_kib(const char *name)
{
	static char text[8192];
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof text - 1);
	char *at;

	close(fd);
	text[n > 0 ? n : 0] = 0;
	at = strstr(text, name);
	return at == NULL ? 0 : strtoul(at + strlen(name), NULL, 10);
}

static size_t fill_once(size_t size)
{
	size_t usable = 0;
	struct node *p;

	while ((p = request(0, size)) != NULL) {
		p->next = all;
		p->size = size;
		all = p;
		usable += malloc_usable_size(p);
	}
	/* A refused request must cost little, and change nothing. */
	for (int i = 0; i < 1000; i++)
		CHECK(request(0, size) == NULL, "malloc(%zu) after NULL", size);
	return usable;
}

static void free_nodes(void)
{
	while (all != NULL) {
		struct node *p = all;

		all = p->next;
		free(p);
	}
}

/* The program's own. */
static void map_half(size_t bytes, const char *when)
{
	void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED, "a mapping of %zu bytes %s", bytes, when);
	if (p != MAP_FAILED)
		munmap(p, bytes);
}

static int fill(size_t size, size_t percent)
{
	struct rlimit limit;
	size_t began = status_kib("VmSize:") << 10;

	getrlimit(RLIMIT_AS, &limit);
	if (limit.rlim_cur == RLIM_INFINITY) { /* the other one is set */
		getrlimit(RLIMIT_DATA, &limit);
		began = status_kib("VmData:") << 10;
	}
	for (int round = 0; round < 3; round++) {
		size_t usable = fill_once(size);

		CHECK(usable + began >= limit.rlim_cur / 100 * percent,
		      "round %d: %zu KiB and %zu KiB of %zu KiB", round, usable >> 10, began >> 10,
		      (size_t)limit.rlim_cur >> 10);
		free_nodes();
		if (round == 0) {
			size_t had = status_kib("VmSize:");

			CHECK(request(0, (size_t)1 << 46) == NULL, "64 TiB were had");
			CHECK(status_kib("VmSize:") > had / 4 * 3,
			      "all that was free was given up for it");
		}
		if (round == 1) {
			malloc_trim(0);
			map_half(limit.rlim_cur / 2, "after malloc_trim");
		}
		void *p = request(0, limit.rlim_cur / 2);
		CHECK(p != NULL, "half of the limit after all was freed, round %d", round);
		free(p);
		map_half(limit.rlim_cur / 2, "after it was allocated and freed");
	}
	return helper_end();
}

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int measure(size_t size)
{
	struct rlimit limit;
	double begin;
	double filled;
	double null;
	size_t n = 0;
	void *p;
	int piece;

	getrlimit(RLIMIT_AS, &limit);
	begin = cpu_s();
	while ((p = malloc(size)) != NULL) {
		((struct node *)p)->next = all;
		all = p;
		n++;
	}
	filled = cpu_s() - begin;
	begin = cpu_s();
	for (int i = 0; i < 10000; i++)
		free(malloc(size));
	null = cpu_s() - begin;
	free_nodes();
	p = malloc(limit.rlim_cur / 2);
	piece = p != NULL;
	free(p);
	p = mmap(NULL, limit.rlim_cur / 2, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("%zu | %.1f | %.3f | %.1f | %s | %s\n", size,
	       100.0 * (double)(n * size) / (double)limit.rlim_cur, filled,
	       null * 1e9 / 10000 / 1000, piece ? "yes" : "no", p != MAP_FAILED ? "yes" : "no");
	return 0;
}

/* ---- a limit that comes when the program has grown ------------------------------------------- */

static void *nothing(void *arg)
{
	return arg;
}

static int late(size_t mib)
{
	struct rlimit limit;
	size_t small = status_kib("VmSize:");
	size_t blocks = (mib << 20) / 512;
	pthread_t t[8];
	int n = 0;

	CHECK(small < 150 << 10, "a small program has %zu KiB of address space", small);
	for (size_t i = 0; i < blocks; i++) {
		struct node *p = request(0, 500);

		if (p == NULL)
			return 98;
		p->next = all;
		all = p;
	}
	size_t now = status_kib("VmSize:");
	CHECK(now < small + (mib << 10) * 3 / 2 + (128 << 10),
	      "%zu KiB of address space for %zu MiB", now, mib);
	/* With a limit of one or two GiB above what it uses: mappings, threads and blocks of
	 * each size. */
	getrlimit(RLIMIT_AS, &limit);
	limit.rlim_cur = (rlim_t)((mib * 3 / 2) + 1024) << 20;
	setrlimit(RLIMIT_AS, &limit);
	while (n < 8 && pthread_create(&t[n], NULL, nothing, NULL) == 0)
		n++;
	CHECK(n == 8, "%d threads of 8", n);
	while (n > 0)
		pthread_join(t[--n], NULL);
	void *m = mmap(NULL, 200 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(m != MAP_FAILED, "mmap of 200 MiB: errno %d", errno);
	for (size_t size = 500; size <= 300 << 20; size *= 3) {
		void *p = request(0, size);

		CHECK(p != NULL, "malloc(%zu)", size);
		free(p);
	}
	/* With a limit below what the program has: free memory can be allocated, other requests
	 * are refused. */
	free_nodes();
	limit.rlim_cur = (rlim_t)status_kib("VmSize:") << 10;
	setrlimit(RLIMIT_AS, &limit);
	void *p = request(0, mib << 19);
	CHECK(p != NULL, "half of what was freed, in one piece, with no address space left");
	free(p);
	return helper_end();
}

/* ---- no mapping left ------------------------------------------------------------------------- */

enum { MAPPINGS_MOST = 300000 };

/* Allocates nothing, so that the library has to map its first region later. */
static long map_count_limit(void)
{
	int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return atol(text);
}

/* Every second page of one mapping gets another protection, until the kernel refuses that; then
 * some of them are changed back, two mappings each. Returns where they are; NULL on an error. */
static char *use_up_mappings(size_t bytes, int left)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *area = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			  0);
	char *at = area + page;

	if (area == MAP_FAILED)
		return NULL;
	while (at < area + bytes && mprotect(at, page, PROT_READ) == 0)
		at += 2 * page;
	if (at >= area + bytes)
		return NULL;
	while (left > 0) {
		at -= 2 * page;
		mprotect(at, page, PROT_NONE);
		left -= 2;
	}
	return area;
}

static int few_mappings(int left, size_t mib, size_t size)
{
	static const size_t sizes[] = { 24, 300, 2000, 9000, 70000, 300000, 1000000 };
	long most = map_count_limit();
	size_t bytes = 2 * (size_t)most * (size_t)sysconf(_SC_PAGESIZE);
	size_t total = 0;

	if (most <= 0 || most > MAPPINGS_MOST)
		return 77;
	char *area = use_up_mappings(bytes, left);
	if (area == NULL)
		return 98;
	for (unsigned i = 0; total < mib << 20; i++) {
		size_t n = size != 0 ? size : sizes[i % (sizeof sizes / sizeof *sizes)];
		int later = size == 0 && i % 5 == 0;
		struct node *p = request(0, later ? n / 2 : n);

		if (p != NULL && later)
			p = realloc(p, n);
		CHECK(p != NULL, "%zu bytes after %zu KiB", n, total >> 10);
		if (p == NULL)
			break;
		p->next = all;
		p->size = n;
		memset(p + 1, 'e', n - sizeof *p);
		all = p;
		total += n;
	}
	free_nodes();
	munmap(area, bytes);
	free(request(0, 40 << 20));
	return helper_end();
}

/* ---- address space that was given up --------------------------------------------------------- */

static uint64_t resident_bytes(void)
{
	int (*stat)(const char *, uint64_t *);
	uint64_t value = 0;

	*(void **)&stat = dlsym(RTLD_DEFAULT, "sluice_stat");
	CHECK(stat != NULL && stat("resident_bytes", &value) == 0, "no resident_bytes");
	return value;
}

static int away(size_t mib)
{
	enum { PART = 1 << 20, KEEP = 40 };
	struct rlimit none;
	struct rlimit limit;
	void *p[2048];
	void *m[2048];
	size_t n = 0;
	size_t mapped = 0;

	getrlimit(RLIMIT_AS, &none);
	limit = none;
	limit.rlim_cur = (rlim_t)mib << 20;
	setrlimit(RLIMIT_AS, &limit);
	while (n < 2048 && (p[n] = request(0, PART)) != NULL)
		n++;
	CHECK(n > mib / 2 && n < 2048, "%zu MiB of %zu", n, mib);
	for (size_t i = 0; i < n; i++)
		if (i % KEEP != 0)
			free(p[i]);
	void *q = request(0, mib << 19);
	CHECK(q != NULL, "half of the limit after all but a few blocks were freed");
	limit.rlim_cur = none.rlim_cur;
	setrlimit(RLIMIT_AS, &limit);
	uint64_t before = resident_bytes();
	for (size_t i = 0; i < n; i++) {
		uintptr_t at = ((uintptr_t)p[i] | 4095) + 1;

		m[i] = MAP_FAILED;
		if (i % KEEP != 0)
			m[i] = mmap((void *)at, PART / 2, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		if (m[i] == MAP_FAILED)
			continue;
		memset(m[i], 'm', PART / 2);
		mapped += PART / 2;
	}
	CHECK(mapped >= mib << 17, "the program could map %zu KiB where its blocks were",
	      mapped >> 10);
	uint64_t after = resident_bytes();
	CHECK(after < before + (1 << 20), "%zu KiB resident after %zu, of %zu that are ours",
	      (size_t)(after >> 10), (size_t)(before >> 10), mapped >> 10);
	for (size_t i = 0; i < n; i++)
		if (m[i] != MAP_FAILED)
			munmap(m[i], PART / 2);
	free(q);
	for (size_t i = 0; i < n; i += KEEP)
		free(p[i]);
	return helper_end();
}

int main(int argc, char **argv)
{
	static char buffer[1024];

	setvbuf(stderr, buffer, _IOLBF, sizeof buffer);
	if (argc == 4 && strcmp(argv[1], "exhaust") == 0)
		return exhaust(argv[2], (size_t)atol(argv[3]));
	if (argc == 2 && strcmp(argv[1], "faults") == 0)
		return faults();
	if (argc == 2 && strcmp(argv[1], "churn") == 0)
		return churn();
	if (argc == 4 && strcmp(argv[1], "fill") == 0)
		return fill((size_t)atol(argv[2]), (size_t)atol(argv[3]));
	if (argc == 3 && strcmp(argv[1], "measure") == 0)
		return measure((size_t)atol(argv[2]));
	if (argc == 3 && strcmp(argv[1], "late") == 0)
		return late((size_t)atol(argv[2]));
	if (argc == 3 && strcmp(argv[1], "away") == 0)
		return away((size_t)atol(argv[2]));
	if ((argc == 4 || argc == 5) && strcmp(argv[1], "mappings") == 0)
		return few_mappings(atoi(argv[2]), (size_t)atol(argv[3]),
				    argc == 5 ? (size_t)atol(argv[4]) : 0);
	fprintf(stderr,
		"usage: limits exhaust MEMBER MIB|faults|churn|fill SIZE PERCENT|measure SIZE|"
		"late MIB|mappings LEFT MIB [SIZE]|away MIB\n");
	return 2;
}
