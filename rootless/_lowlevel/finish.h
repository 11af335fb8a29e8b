/* finish.h: give files, once they are complete, the owner, attributes, mode and times that the archive says.
 *
 * Directories come last of all: their times would change with each file made in them, a default ACL or the set-group-id bit would pass on to those files. Until
 * then all are 0755 and of root, so that a file of root needs no chown(2): most files cost openat, write, utimensat, close. */
#ifndef RL_FINISH_H
#define RL_FINISH_H

#include "beneath.h"
#include "tar.h"

/* A directory whose attributes are still to be set. Its path lies in rl_finish.paths. */
struct rl_late {
	size_t path;
	struct rl_attributes attributes;
};

struct rl_finish {
	struct rl_fault *fault;
	bool single_id;          /* as rl_unpack_options */
	uint64_t skipped_xattrs;
	char *paths;
	size_t paths_size, paths_capacity;
	struct rl_late *late;
	size_t late_count, late_capacity, late_records; /* bytes of their records */
};

/* Finish a regular file that was made with its permission bits. */
int rl_finish_file(struct rl_finish *finish, int file, const struct rl_attributes *attributes);

/* Finish what is not opened: a symlink or a fifo. */
int rl_finish_at(struct rl_finish *finish, int parent, const char *name, const struct rl_attributes *attributes);

/* Remember a directory's attributes until rl_finish_directories. */
int rl_finish_late(struct rl_finish *finish, const char *path, const struct rl_attributes *attributes);

/* Finish all directories. One that is no more was replaced by a later entry. */
int rl_finish_directories(struct rl_finish *finish, struct rl_beneath *beneath);

void rl_finish_end(struct rl_finish *finish);

#endif
