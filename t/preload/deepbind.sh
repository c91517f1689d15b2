#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
#
# dlopen with RTLD_DEEPBIND (src/shim/dlopen.c): what the opened library frees is ours, and the
# library is looked for as the caller asks.
. "${0%/*}/../lib/tap.sh"
need gcc
plan 6
tmpdir

mkdir "$TMP/found"
cat >"$TMP/plugin.c" <<'C'
#include <stdlib.h>
#include <string.h>
char *make(void) { return strdup("made"); }
void give_back(char *p) { free(p); }
C
cat >"$TMP/caller.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
void *call(const char *name)
{
	void *lib = dlopen(name, RTLD_NOW | RTLD_DEEPBIND);

	return lib; /* no tail call: the caller is this library */
}
int opened_early;
__attribute__((constructor)) static void begin(void) { opened_early = call("early.so") != 0; }
C
cat >"$TMP/main.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
void *call(const char *name);
extern int opened_early;
int main(void)
{
	void *own = dlopen("plugin.so", RTLD_NOW);
	void *lib = call("plugin.so");
	char *(*make)(void);
	void (*give_back)(char *);

	printf("early %d, by the program %d, ", opened_early, own != NULL);
	if (!lib)
		return printf("%s\n", dlerror()) < 0;
	*(void **)&make = dlsym(lib, "make");
	*(void **)&give_back = dlsym(lib, "give_back");
	for (int i = 0; i < 1000; i++) {
		free(make());
		give_back(malloc(100));
	}
	printf("given back, ");
	return printf("%s\n", call("none.so") ? "found" : dlerror()) < 0;
}
C
# Only the RUNPATH of the calling library leads to the plug-ins.
gcc -w -shared -fPIC "$TMP/plugin.c" -o "$TMP/found/plugin.so" &&
	cp "$TMP/found/plugin.so" "$TMP/found/early.so" &&
	gcc -w -shared -fPIC "$TMP/caller.c" -o "$TMP/libcaller.so" \
		-Wl,--enable-new-dtags,-rpath,"$TMP/found" &&
	gcc -w "$TMP/main.c" -o "$TMP/deepbind" -L"$TMP" -lcaller
ok $? "the program and its plug-ins are built"
want="early 1, by the program 0, given back, none.so: cannot open shared object file: No such file"
want="$want or directory"
is "$(LD_LIBRARY_PATH=$TMP "$TMP/deepbind" 2>&1)" "$want" \
	"the C library finds the plug-ins by the caller's RUNPATH"
is "$(with_sluice env LD_LIBRARY_PATH="$TMP" "$TMP/deepbind" 2>&1)" "$want" \
	"with the library they are found in the same way, and free what is ours"
proved_loaded "the program was served by the library" deepbind

# Debian's php opens its extensions in this way.
if command -v php >/dev/null; then
	: >"$STATS"
	script='echo json_encode([1, 2, 3]), strlen(str_repeat("abc", 100000)), "\n";'
	is "$(with_sluice php -r "$script" 2>&1)" "$(php -r "$script" 2>&1)" \
		"php says the same as without the library"
	proved_loaded "php was served by the library" php
else
	skip "php says the same as without the library" "php is not installed"
	skip "php was served by the library" "php is not installed"
fi
