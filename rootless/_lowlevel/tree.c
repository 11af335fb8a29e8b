/* tree.c: remove a tree by descriptors.
 *
 * Directories are entered LEVELS deep; one that lies deeper is first renamed to the top of the tree, where the next scan finds it. So a tree of any depth takes the
 * same memory and descriptors, and no path is ever longer than one name. Going back up through ".." was refused: a directory that somebody moves meanwhile
 * would take the removal with it, out of the tree. */
#define _GNU_SOURCE
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"
#include "syscalls.h"

#ifndef RL_RESOLVE_NO_XDEV
#define RL_RESOLVE_NO_XDEV 0x01
#endif

enum {
	LEVELS = 32,
	TRIES = 16, /* scans of a directory that others fill as we empty it */
};

struct removal {
	struct rl_tree_failure *failure;
	int top;             /* the tree's own directory */
	unsigned long lifted; /* directories renamed to it */
	bool privileged;     /* permission bits do not bind us */
};

static int fail(struct removal *removal, const char *name, const char *what)
{
	if (removal->failure) {
		removal->failure->error = errno;
		rl_describe(removal->failure->text, sizeof removal->failure->text, name, strlen(name), what);
	}
	return -1;
}

static int close_keeping_errno(int descriptor)
{
	int saved = errno;

	close(descriptor);
	errno = saved;
	return -1;
}

/* Open `name`, a directory on the mount of `parent`; EXDEV where it is on another. */
static int open_here(int parent, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	struct rl_open_how how = { .flags = (uint64_t)flags, .resolve = RL_RESOLVE_NO_XDEV };
	struct stat above, here;

	int directory = rl_openat2(parent, name, &how);
	if (directory >= 0 || (errno != ENOSYS && errno != EPERM))
		return directory;
	/* Before Linux 5.6, or forbidden by a seccomp filter. A bind mount of the same file system passes this check; rmdir(2) will refuse it. */
	directory = openat(parent, name, flags);
	if (directory < 0)
		return -1;
	if (fstat(directory, &here) < 0 || fstat(parent, &above) < 0)
		return close_keeping_errno(directory);
	if (here.st_dev != above.st_dev) {
		errno = EXDEV;
		return close_keeping_errno(directory);
	}
	return directory;
}

/* As open_here, and whatever the permission bits of our own directories say, ready to be emptied. */
static int open_to_empty(const struct removal *removal, int parent, const char *name)
{
	char path[32];

	int directory = open_here(parent, name);
	if (directory < 0 && errno == EACCES) {
		int handle = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (handle < 0)
			return -1;
		snprintf(path, sizeof path, "/proc/self/fd/%d", handle); /* chmod(2) follows it to the directory itself, whatever now has its name */
		int changed = chmod(path, 0700);
		close_keeping_errno(handle);
		if (changed < 0)
			return -1;
		directory = open_here(parent, name);
	}
	if (directory >= 0 && !removal->privileged)
		(void)fchmod(directory, 0700); /* removing from it will say what is wrong */
	return directory;
}

/* Rename a directory that lies too deep to the top of the tree. */
static int lift(struct removal *removal, int parent, const char *name)
{
	char new_name[32];

	do {
		snprintf(new_name, sizeof new_name, ".rl-%lu", removal->lifted++);
		if (renameat(parent, name, removal->top, new_name) == 0 || errno == ENOENT)
			return 0;
	} while (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR);
	return fail(removal, name, "cannot rename the directory");
}

static int remove_directory(struct removal *removal, int parent, const char *name, int level);

/* Remove what is in a directory; takes over its descriptor. */
static int empty(struct removal *removal, int directory, const char *name, int level)
{
	const struct dirent *entry;
	int result = 0;

	DIR *stream = fdopendir(directory);
	if (!stream) {
		fail(removal, name, "cannot read the directory");
		return close_keeping_errno(directory);
	}
	while (result == 0 && (errno = 0, entry = readdir(stream))) {
		const char *child = entry->d_name;

		if (strcmp(child, ".") == 0 || strcmp(child, "..") == 0)
			continue;
		if (entry->d_type != DT_DIR) {
			if (unlinkat(directory, child, 0) == 0 || errno == ENOENT)
				continue;
			if (errno != EISDIR) {
				result = fail(removal, child, "cannot remove");
				continue;
			}
		}
		result = level < LEVELS ? remove_directory(removal, directory, child, level + 1) : lift(removal, directory, child);
	}
	if (result == 0 && errno)
		result = fail(removal, name, "cannot read the directory");
	int saved = errno;
	closedir(stream);
	errno = saved;
	return result;
}

static int remove_directory(struct removal *removal, int parent, const char *name, int level)
{
	for (int tries = 0; tries < TRIES; tries++) {
		unsigned long lifted = removal->lifted;

		int directory = open_to_empty(removal, parent, name);
		if (directory < 0 && errno == ENOENT)
			return 0;
		if (directory < 0 && (errno == ENOTDIR || errno == ELOOP)) { /* a file or symlink has taken its place */
			if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
				return 0;
			return fail(removal, name, "cannot remove");
		}
		if (directory < 0)
			return fail(removal, name, errno == EXDEV ? "is a mount point" : "cannot open the directory");
		if (level == 0)
			removal->top = directory;
		if (empty(removal, directory, name, level) < 0)
			return -1;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return fail(removal, name, "cannot remove the directory");
		if (level == 0 && removal->lifted != lifted)
			tries = -1; /* not others' doing: what we have lifted waits in it, or is on its way up */
	}
	errno = ENOTEMPTY;
	return fail(removal, name, "cannot remove the directory");
}

int rl_remove_tree(int parent_fd, const char *name, struct rl_tree_failure *failure)
{
	struct removal removal = { .failure = failure, .top = -1, .privileged = geteuid() == 0 };

	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		errno = EINVAL;
		return fail(&removal, name, "is not a name in a directory");
	}
	if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return fail(&removal, name, "cannot remove");
	return remove_directory(&removal, parent_fd, name, 0);
}
