/* pax.c: the extended headers of a tar: numbers in decimal, records, long names, extended attributes. */
#define _GNU_SOURCE
#include "pax.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"

#define XATTR_LIBARCHIVE "LIBARCHIVE.xattr."

enum {
	RECORDS_MAX = 1 << 20, /* bytes of extended headers for one entry */
	EXTENTS_MAX = 1 << 20, /* pieces of one sparse file */
};

int rl_pax_begin(struct rl_pax *pax, struct rl_blocks *blocks)
{
	pax->blocks = blocks;
	pax->records = malloc(RECORDS_MAX + 1);
	return pax->records ? 0 : -1;
}

void rl_pax_end(struct rl_pax *pax)
{
	free(pax->map.extents);
	free(pax->records);
}

void rl_pax_forget(struct rl_pax *pax)
{
	pax->given = pax->global;
	pax->records_size = 0;
	pax->map.count = 0;
	pax->map.open = false;
}

/* ---- numbers */

bool rl_decimal(const char *text, const char *end, uint64_t *number)
{
	uint64_t value = 0;

	if (text == end)
		return false;
	for (; text < end; text++) {
		const unsigned digit = (unsigned)(*text - '0');

		if (digit > 9 || value > ((uint64_t)INT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*number = value;
	return true;
}

/* A time in seconds, with sign and fraction: what is finer than a nanosecond is dropped. */
static bool decimal_time(const char *text, const char *end, struct timespec *time)
{
	const bool negative = text < end && *text == '-';
	const char *whole = text + negative, *point = memchr(whole, '.', (size_t)(end - whole));
	uint64_t seconds;
	long nanoseconds = 0, scale = 100000000;

	if (!rl_decimal(whole, point ? point : end, &seconds))
		return false;
	for (const char *digit = point ? point + 1 : end; digit < end; digit++, scale /= 10) {
		if (*digit < '0' || *digit > '9')
			return false;
		nanoseconds += (*digit - '0') * scale;
	}
	time->tv_sec = negative ? -(int64_t)seconds : (int64_t)seconds;
	time->tv_nsec = nanoseconds;
	if (negative && nanoseconds) {
		time->tv_sec--;
		time->tv_nsec = 1000000000 - nanoseconds;
	}
	return true;
}

/* ---- records */

int rl_add_extent(struct rl_pax *pax, uint64_t offset, uint64_t size)
{
	struct rl_map *map = &pax->map;
	void *larger = rl_grown(map->extents, map->count, &map->capacity, sizeof *map->extents, EXTENTS_MAX);

	if (!larger && map->count == EXTENTS_MAX)
		return rl_hostile(pax->blocks->fault, "the map of a sparse file is too long");
	if (!larger)
		return rl_refused(pax->blocks->fault, "cannot unpack");
	map->extents = larger;
	map->extents[map->count++] = (struct rl_extent){ offset, size };
	return 0;
}

/* Sparse format 0.1: all offsets and sizes in one list of numbers. */
static int read_map(struct rl_pax *pax, const char *text, const char *end)
{
	uint64_t number[2];

	pax->map.count = 0;
	for (size_t i = 0; text < end; i++) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *stop = comma ? comma : end;

		if (!rl_decimal(text, stop, &number[i % 2]) || (!comma && i % 2 == 0))
			return rl_malformed(pax->blocks->fault, "the map of a sparse file is damaged");
		if (i % 2 && rl_add_extent(pax, number[0], number[1]) < 0)
			return -1;
		text = stop + 1;
	}
	return 0;
}

/* Sparse format 0.0: a record for each offset, and one for each size. */
static int read_map_number(struct rl_pax *pax, bool offset, const char *text, const char *end)
{
	struct rl_map *map = &pax->map;
	uint64_t number;

	if (!rl_decimal(text, end, &number) || offset == map->open)
		return rl_malformed(pax->blocks->fault, "the map of a sparse file is damaged");
	map->open = offset;
	if (offset)
		return rl_add_extent(pax, number, 0);
	map->extents[map->count - 1].size = number;
	return 0;
}

static int keep_text(struct rl_pax *pax, char target[PATH_MAX], const char *text, size_t size)
{
	if (memchr(text, 0, size))
		return rl_hostile(pax->blocks->fault, "a name in an extended header has a NUL byte");
	if (size >= PATH_MAX)
		return rl_malformed(pax->blocks->fault, "a name in an extended header is too long");
	memcpy(target, text, size);
	target[size] = 0;
	return 0;
}

/* Take one record. An empty value takes back what a global header has said (pax(1)). */
static int read_record(struct rl_pax *pax, struct rl_given *given, const char *key, const char *value, const char *end)
{
	static const struct {
		const char *key;
		unsigned mask;
		size_t offset;
	} numbers[] = {
		{ "size", RL_GIVEN_SIZE, offsetof(struct rl_given, size) },
		{ "uid", RL_GIVEN_UID, offsetof(struct rl_given, uid) },
		{ "gid", RL_GIVEN_GID, offsetof(struct rl_given, gid) },
		{ "GNU.sparse.realsize", RL_GIVEN_REAL_SIZE, offsetof(struct rl_given, real_size) },
		{ "GNU.sparse.size", RL_GIVEN_REAL_SIZE, offsetof(struct rl_given, real_size) },
		{ "GNU.sparse.major", 0, offsetof(struct rl_given, sparse_major) },
		{ "GNU.sparse.minor", 0, offsetof(struct rl_given, sparse_minor) },
	};
	const size_t size = (size_t)(end - value);

	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		if (strcmp(key, numbers[i].key) != 0)
			continue;
		if (given == &pax->global && !(numbers[i].mask & RL_GIVEN_GLOBALLY))
			return 0;
		given->mask &= ~numbers[i].mask;
		if (size == 0)
			return 0;
		if (!rl_decimal(value, end, (uint64_t *)((char *)given + numbers[i].offset)))
			return rl_malformed(pax->blocks->fault, "a number in an extended header is damaged");
		given->mask |= numbers[i].mask;
		return 0;
	}
	if (strcmp(key, "mtime") == 0) {
		given->mask &= ~(unsigned)RL_GIVEN_MTIME;
		if (size && !decimal_time(value, end, &given->mtime))
			return rl_malformed(pax->blocks->fault, "a time in an extended header is damaged");
		given->mask |= size ? RL_GIVEN_MTIME : 0;
		return 0;
	}
	if (given == &pax->global)
		return 0; /* names and attributes are of one file */
	if (strcmp(key, "GNU.sparse.name") == 0) { /* `path` is then a name for those who do not know sparse files */
		given->mask |= RL_GIVEN_PATH | RL_GIVEN_SPARSE_NAME;
		return keep_text(pax, pax->path, value, size);
	}
	if (strcmp(key, "path") == 0 && !(given->mask & RL_GIVEN_SPARSE_NAME)) {
		given->mask = size ? given->mask | RL_GIVEN_PATH : given->mask & ~(unsigned)RL_GIVEN_PATH;
		return keep_text(pax, pax->path, value, size);
	}
	if (strcmp(key, "linkpath") == 0) {
		given->mask = size ? given->mask | RL_GIVEN_LINK : given->mask & ~(unsigned)RL_GIVEN_LINK;
		return keep_text(pax, pax->link, value, size);
	}
	if (strcmp(key, "GNU.sparse.map") == 0) {
		given->mask |= RL_GIVEN_MAP;
		return read_map(pax, value, end);
	}
	if (strcmp(key, "GNU.sparse.offset") == 0 || strcmp(key, "GNU.sparse.numbytes") == 0) {
		given->mask |= RL_GIVEN_MAP;
		return read_map_number(pax, strcmp(key, "GNU.sparse.offset") == 0, value, end);
	}
	if (rl_starts(key, RL_XATTR_PAX) || rl_starts(key, XATTR_LIBARCHIVE))
		given->mask |= RL_GIVEN_XATTR;
	return 0;
}

/* One `LENGTH KEY=VALUE\n` (pax(1)) at *at; its `=` becomes a NUL. Moves *at behind it. False where there is none. */
static bool split_record(char **at, char *end, char **key, char **value, char **value_end)
{
	char *space = memchr(*at, ' ', (size_t)(end - *at));
	uint64_t length;

	if (!space || !rl_decimal(*at, space, &length) || length > (uint64_t)(end - *at) || length < (uint64_t)(space - *at) + 2)
		return false;
	*value_end = *at + length - 1;
	*key = space + 1;
	if (**value_end != '\n')
		return false;
	*at += length;
	char *equals = memchr(*key, '=', (size_t)(*value_end - *key));
	if (!equals || equals == *key || memchr(*key, 0, (size_t)(equals - *key)))
		return false;
	*equals = 0;
	*value = equals + 1;
	return true;
}

/* Read the data of a header that speaks of others, behind the records kept so far. NULL where it is too long or the archive ends. */
static char *read_extension(struct rl_pax *pax, uint64_t size)
{
	if (size > RECORDS_MAX - pax->records_size) {
		rl_hostile(pax->blocks->fault, "an extended header is larger than a mebibyte");
		return NULL;
	}
	char *data = pax->records + pax->records_size;
	if (rl_take(pax->blocks, data, size) < 0 || rl_skip_padding(pax->blocks, size) < 0)
		return NULL;
	data[size] = 0;
	return data;
}

int rl_read_records(struct rl_pax *pax, uint64_t size, struct rl_given *given)
{
	char *at = read_extension(pax, size);
	char *key, *value, *value_end;

	if (!at)
		return -1;
	char *end = at + size;
	while (at < end) {
		if (!split_record(&at, end, &key, &value, &value_end))
			return rl_malformed(pax->blocks->fault, "an extended header is damaged");
		if (read_record(pax, given, key, value, value_end) < 0)
			return -1;
		value[-1] = '='; /* rl_next_xattr reads them once more */
	}
	if (given == &pax->given)
		pax->records_size += size;
	return 0;
}

int rl_read_long_text(struct rl_pax *pax, uint64_t size, enum rl_given_field field, char target[PATH_MAX])
{
	const char *text = read_extension(pax, size);

	if (!text)
		return -1;
	pax->given.mask |= field;
	return keep_text(pax, target, text, strnlen(text, size));
}

/* ---- extended attributes */

/* Decode base64 in place (RFC 4648; padding may be missing). The size, or -1. */
static ssize_t decode_base64(char *text, size_t size)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, held = 0;
	char *out = text;

	while (size && text[size - 1] == '=')
		size--;
	for (size_t i = 0; i < size; i++) {
		const char *letter = memchr(alphabet, text[i], sizeof alphabet - 1);
		if (!letter)
			return -1;
		bits = bits << 6 | (unsigned)(letter - alphabet);
		held += 6;
		if (held >= 8) {
			held -= 8;
			*out++ = (char)(bits >> held & 0xff);
		}
	}
	return out - text;
}

/* Decode %XX in place. */
static void decode_percent(char *text)
{
	static const char digits[] = "0123456789ABCDEF0123456789abcdef";
	char *out = text;

	for (; *text; text++) {
		const char *high = *text == '%' && text[1] ? strchr(digits, text[1]) : NULL;
		const char *low = high && text[2] ? strchr(digits, text[2]) : NULL;
		if (low) {
			*out++ = (char)((high - digits) % 16 << 4 | (low - digits) % 16);
			text += 2;
		} else {
			*out++ = *text;
		}
	}
	*out = 0;
}

int rl_next_xattr(char **at, char *end, struct rl_xattr *xattr)
{
	char *key, *value, *value_end;

	while (*at < end && split_record(at, end, &key, &value, &value_end)) {
		ssize_t size = value_end - value;

		if (rl_starts(key, RL_XATTR_PAX)) {
			key += strlen(RL_XATTR_PAX);
		} else if (rl_starts(key, XATTR_LIBARCHIVE)) {
			key += strlen(XATTR_LIBARCHIVE);
			decode_percent(key);
			size = decode_base64(value, (size_t)size);
		} else {
			continue;
		}
		if (size < 0 || !*key)
			return -1;
		*xattr = (struct rl_xattr){ key, value, (size_t)size };
		return 1;
	}
	return 0;
}
