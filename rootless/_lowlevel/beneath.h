/* beneath.h: the directories of a layer, found and made beneath its root, whatever symlinks the archive has put into their way.
 *
 * Paths are canonical (rl_canonical). Nobody else renames directories of the layer meanwhile. Failures are noted in `fault`. */
#ifndef RL_BENEATH_H
#define RL_BENEATH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "whiteouts.h"

enum { RL_DIRECTORIES_KEPT = 16 };

struct rl_kept_directory {
	int directory; /* -1: free */
	unsigned used;
	size_t length;
	char path[PATH_MAX];
};

struct rl_beneath {
	int root;
	struct rl_fault *fault;
	struct rl_whiteouts *whiteouts;
	bool no_openat2;
	bool stale; /* a directory or symlink was replaced: kept paths may be others' now */
	unsigned clock;
	struct rl_kept_directory kept[RL_DIRECTORIES_KEPT];
};

void rl_beneath_begin(struct rl_beneath *beneath, int root, struct rl_whiteouts *whiteouts);

void rl_beneath_end(struct rl_beneath *beneath);

/* A descriptor (O_PATH, not the caller's) of the directory that `path` lies in, valid until the next but one call; the last component goes to *name.
 * -1 and errno where there is no such directory, without a note. */
int rl_find_parent(struct rl_beneath *beneath, const char *path, const char **name);

/* The same, making what is missing. -1 after a note. */
int rl_have_parent(struct rl_beneath *beneath, const char *path, const char **name);

/* Have a directory of this name. What else has the name is replaced where `replace` allows, whiteouts always. */
int rl_have_directory(struct rl_beneath *beneath, int parent, const char *name, bool replace);

/* Remove what has the name of an entry that comes. */
int rl_clear_way(struct rl_beneath *beneath, int parent, const char *name);

#endif
