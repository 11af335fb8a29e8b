/* tar.h: read a tar (POSIX, GNU, star, and those before them) as one entry after another.
 *
 * Where a field is out of order the rules of Go's archive/tar, which Docker unpacks with, are followed: an archive must not mean one thing to those who
 * check it and another to us. Memory is bounded whatever its fields claim. Nothing here touches a file but the archive and, to fill it, the one that is handed in. */
#ifndef RL_TAR_H
#define RL_TAR_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "fault.h"

/* The letters of the format; others mean one of these, or are refused. */
enum rl_tar_type {
	RL_TAR_FILE = '0',
	RL_TAR_HARD_LINK = '1',
	RL_TAR_SYMLINK = '2',
	RL_TAR_CHARACTER_DEVICE = '3',
	RL_TAR_BLOCK_DEVICE = '4',
	RL_TAR_DIRECTORY = '5',
	RL_TAR_FIFO = '6',
	RL_TAR_GNU_SPARSE = 'S', /* a file, with its map behind its header */
};

/* What headers say of a file beside its contents. records: for rl_next_xattr, NULL where there are no attributes. */
struct rl_attributes {
	uint32_t uid, gid;
	mode_t mode;
	struct timespec mtime;
	char *records;
	size_t records_size;
};

struct rl_tar_entry {
	enum rl_tar_type type;
	char path[PATH_MAX];             /* in the form of rl_canonical */
	char link[PATH_MAX];             /* of a link: its content, or target, as the archive has it */
	struct rl_attributes attributes;
};

struct rl_tar;

/* Begin to read `file`, which stays the caller's; failures are noted in `fault`. NULL and errno where there is no memory. */
struct rl_tar *rl_tar_begin(int file, struct rl_fault *fault);

void rl_tar_end(struct rl_tar *tar);

/* Go to the next entry; what was not read of the one before is skipped. *entry is valid until the next call.
 * 1; or 0 at the end of the archive, with what follows it read; or -1. */
int rl_tar_next(struct rl_tar *tar, struct rl_tar_entry **entry);

/* Before the contents of a file: read and check the map of one that is sparse. Those of a file that is not wanted need not be asked for, unless it is GNU_SPARSE. */
int rl_tar_read_map(struct rl_tar *tar);

/* Write the contents of a file to `file`, which is empty; *bytes grows by what was written. Holes stay holes. */
int rl_tar_copy(struct rl_tar *tar, int file, uint64_t *bytes);

/* Bring a name of the archive into its one form: no slash at either end, no empty component, no `.`; the root is "". One with `..` is refused. */
int rl_canonical(struct rl_fault *fault, const char *name, size_t size, char result[PATH_MAX]);

#endif
