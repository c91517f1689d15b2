/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz/options - any text as the settings of SLUICE_CONF: none is out of its bounds afterwards. For
 * libFuzzer; `make fuzz` builds it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void within(uint64_t value, uint64_t low, uint64_t high)
{
	if (value < low || value > high)
		abort();
}

#define CHECK_SIZE(name, min, max) within((uint64_t)options.name, min, max)
#define CHECK_UINT(name, min, max) within((uint64_t)options.name, min, max)
#define CHECK_BOOL(name, min, max) within((uint64_t)options.name, 0, 1)
#define CHECK_ENUM(name, min, max) within((uint64_t)options.name, min, max)
#define CHECK_STRING(name, min, max) within(strnlen(options.name, sizeof(options.name)), 0, max)
#define CHECK_AUTO(name, min, max) ((void)0)
#define CHECK_LIMIT(name, min, max) ((void)0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	char *text = malloc(bytes + 1);

	if (!text)
		return 0;
	memcpy(text, data, bytes);
	text[bytes] = '\0';
	options_parse(text, "fuzz");
	free(text);
#define OPT(name, type, def, min, max, when, says) CHECK_##type(name, min, max);
#include "base/options.def"
#undef OPT
	return 0;
}
