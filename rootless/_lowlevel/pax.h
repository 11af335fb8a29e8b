/* pax.h: the extended headers of a tar: what they say of the entries after them. pax(1) records, global and of one entry; GNU's long names and links. */
#ifndef RL_PAX_H
#define RL_PAX_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "blocks.h"

enum rl_given_field {
	RL_GIVEN_SIZE = 1,
	RL_GIVEN_UID = 2,
	RL_GIVEN_GID = 4,
	RL_GIVEN_MTIME = 8,
	RL_GIVEN_GLOBALLY = RL_GIVEN_SIZE | RL_GIVEN_UID | RL_GIVEN_GID | RL_GIVEN_MTIME,
	RL_GIVEN_PATH = 16,
	RL_GIVEN_LINK = 32,
	RL_GIVEN_XATTR = 64,
	RL_GIVEN_REAL_SIZE = 128,
	RL_GIVEN_MAP = 256,
	RL_GIVEN_SPARSE_NAME = 512,
};

/* mask: the fields that were given. */
struct rl_given {
	unsigned mask;
	uint64_t size, uid, gid, real_size, sparse_major, sparse_minor;
	struct timespec mtime;
};

/* A piece of a sparse file that is stored in the archive. All numbers are at most INT64_MAX, as all of an archive are. */
struct rl_extent {
	uint64_t offset, size;
};

struct rl_map {
	struct rl_extent *extents;
	size_t count, capacity;
	bool open; /* an offset has come, its size not yet (sparse format 0.0) */
};

/* What holds for the next entry. path, link: where `given` has them. */
struct rl_pax {
	struct rl_blocks *blocks;
	struct rl_given global, given;
	char path[PATH_MAX], link[PATH_MAX];
	char *records; /* the headers of the next entry, for rl_next_xattr */
	size_t records_size;
	struct rl_map map;
};

/* -1 where there is no memory. */
int rl_pax_begin(struct rl_pax *pax, struct rl_blocks *blocks);

void rl_pax_end(struct rl_pax *pax);

/* The entry is over: what was given for it alone is forgotten. */
void rl_pax_forget(struct rl_pax *pax);

/* Read the data, `size` bytes, of a header that holds records. given: pax->given or pax->global. */
int rl_read_records(struct rl_pax *pax, uint64_t size, struct rl_given *given);

/* Read the data of a GNU long name (RL_GIVEN_PATH, pax->path) or link (RL_GIVEN_LINK, pax->link). */
int rl_read_long_text(struct rl_pax *pax, uint64_t size, enum rl_given_field field, char target[PATH_MAX]);

int rl_add_extent(struct rl_pax *pax, uint64_t offset, uint64_t size);

/* Decimal digits up to `end`, all of them; false where there is anything else or the number is beyond INT64_MAX. */
bool rl_decimal(const char *text, const char *end, uint64_t *number);

struct rl_xattr {
	const char *name, *value;
	size_t size;
};

/* The next extended attribute among records, from *at on, which is moved behind it. The records are changed: they can be read but once.
 * 1, or 0 where there is none, or -1 where one is damaged. */
int rl_next_xattr(char **at, char *end, struct rl_xattr *xattr);

#endif
