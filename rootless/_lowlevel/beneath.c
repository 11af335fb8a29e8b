/* beneath.c: the directories of a layer, found and made beneath its root.
 *
 * openat2(2) finds them (RESOLVE_IN_ROOT); where it is not there, or something has to be made on the way, a walk does, a component at a time. */
#define _GNU_SOURCE
#include "beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "syscalls.h"
#include "tree.h"

enum {
	SYMLINKS_MAX = 40, /* as the kernel's own limit, path_resolution(7) */
	TOLD = -2,         /* what is no descriptor, and was noted; -1 is of errno */
};

static int close_keeping_errno(int descriptor)
{
	int saved = errno;

	close(descriptor);
	errno = saved;
	return -1;
}

/* ---- one component */

int rl_clear_way(struct rl_beneath *beneath, int parent, const char *name)
{
	struct rl_tree_failure failure;
	struct stat status;

	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode)))
		beneath->stale = true;
	if (rl_remove_tree(parent, name, &failure) == 0)
		return 0;
	errno = failure.error;
	return rl_refused(beneath->fault, "cannot be replaced");
}

int rl_have_directory(struct rl_beneath *beneath, int parent, const char *name, bool replace)
{
	struct stat status;
	bool hides = rl_drop_whiteout_file(beneath->whiteouts, parent, name);

	int made = mkdirat(parent, name, 0755);
	if (made < 0 && errno == EEXIST) {
		if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			return rl_refused(beneath->fault, "cannot make the directory");
		if (!S_ISDIR(status.st_mode)) {
			if (!replace && !rl_is_whiteout(&status))
				return rl_malformed(beneath->fault, "lies beneath something that is not a directory");
			if (rl_clear_way(beneath, parent, name) < 0)
				return -1;
			hides = true; /* what was here hid what is below; the directory must not let it through */
			made = mkdirat(parent, name, 0755);
		} else {
			made = 0;
		}
	}
	if (made < 0)
		return rl_refused(beneath->fault, "cannot make the directory");
	return hides ? rl_mark_opaque(beneath->whiteouts, parent, name) : 0;
}

/* Step from a directory to its entry `name`, making it where it is missing and `make` is set.
 * A descriptor of a directory; or, with *target set to its length, -1 for a symlink whose content is in `text`; or -1 and errno; or TOLD. */
static int step(struct rl_beneath *beneath, int from, const char *name, bool make, char text[PATH_MAX], ssize_t *target)
{
	struct stat status;

	*target = 0;
	for (bool made = false;; made = true) {
		int to = openat(from, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (to < 0 && (errno != ENOENT || !make || made))
			return -1;
		if (to >= 0 && fstat(to, &status) < 0)
			return close_keeping_errno(to);
		if (to >= 0 && S_ISDIR(status.st_mode))
			return to;
		if (to >= 0 && S_ISLNK(status.st_mode)) {
			*target = readlinkat(to, "", text, PATH_MAX - 1);
			if (*target == 0)
				errno = ENOENT;
			return close_keeping_errno(to);
		}
		if (to >= 0)
			close(to);
		if (to >= 0 && (!make || !rl_is_whiteout(&status))) {
			errno = ENOTDIR;
			return -1;
		}
		if (rl_have_directory(beneath, from, name, false) < 0)
			return TOLD;
	}
}

/* ---- paths */

/* Open a directory of the root as a process confined to it would, a component at a time; with `make`, make what is missing. As `step`, without symlinks. */
static int walk(struct rl_beneath *beneath, const char *path, bool make)
{
	char rest[PATH_MAX], text[PATH_MAX], name[NAME_MAX + 1];
	unsigned depth = 0, symlinks = 0;
	size_t length = strlen(path), at = 0;

	memcpy(rest, path, length + 1); /* a canonical path is shorter than PATH_MAX */
	int directory = fcntl(beneath->root, F_DUPFD_CLOEXEC, 0);
	while (directory >= 0 && at < length) {
		const size_t size = strcspn(rest + at, "/");
		ssize_t target = 0;
		int next;

		if (size > NAME_MAX) {
			errno = ENAMETOOLONG;
			return close_keeping_errno(directory);
		}
		memcpy(name, rest + at, size);
		name[size] = 0;
		at += size + (rest[at + size] == '/');
		if (size == 0 || strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			if (depth == 0)
				continue;
			depth--; /* nobody renames directories while we unpack: the parent of one that is `depth` beneath the root is still beneath it, or it */
			next = openat(directory, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		} else {
			next = step(beneath, directory, name, make, text, &target);
			depth += next >= 0;
		}
		if (target > 0) {
			const size_t left = length - at;

			if (++symlinks > SYMLINKS_MAX || (size_t)target + 1 + left >= sizeof rest) {
				errno = symlinks > SYMLINKS_MAX ? ELOOP : ENAMETOOLONG;
				return close_keeping_errno(directory);
			}
			memmove(rest + target + 1, rest + at, left);
			memcpy(rest, text, (size_t)target);
			rest[target] = '/';
			length = (size_t)target + 1 + left;
			rest[length] = 0;
			at = 0;
			if (text[0] != '/')
				continue;
			depth = 0;
			next = fcntl(beneath->root, F_DUPFD_CLOEXEC, 0);
		}
		close_keeping_errno(directory);
		directory = next;
	}
	return directory;
}

static int open_directory(struct rl_beneath *beneath, const char *path, bool make)
{
	struct rl_open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RL_RESOLVE_IN_ROOT | RL_RESOLVE_NO_MAGICLINKS,
	};

	if (!beneath->no_openat2) {
		int directory = rl_openat2(beneath->root, *path ? path : ".", &how);
		if (directory >= 0)
			return directory;
		beneath->no_openat2 = errno == ENOSYS || errno == EPERM; /* EPERM: a seccomp filter that does not know it */
		if (!beneath->no_openat2 && errno != EAGAIN && !(make && (errno == ENOENT || errno == ENOTDIR)))
			return -1;
	}
	return walk(beneath, path, make);
}

/* ---- parents, of which some are kept open */

static void forget(struct rl_beneath *beneath)
{
	for (size_t i = 0; i < RL_DIRECTORIES_KEPT; i++) {
		if (beneath->kept[i].directory >= 0)
			close(beneath->kept[i].directory);
		beneath->kept[i].directory = -1;
		beneath->kept[i].used = 0;
	}
	beneath->stale = false;
}

/* The parent of `path`: a descriptor, or -1 and errno, or TOLD. */
static int open_parent(struct rl_beneath *beneath, const char *path, bool make, const char **name)
{
	struct rl_kept_directory *oldest = beneath->kept;
	char parent[PATH_MAX];

	if (beneath->stale)
		forget(beneath);
	*name = rl_last_component(path);
	const size_t length = *name > path ? (size_t)(*name - path) - 1 : 0;
	for (size_t i = 0; i < RL_DIRECTORIES_KEPT; i++) {
		struct rl_kept_directory *kept = &beneath->kept[i];

		if (kept->directory >= 0 && kept->length == length && memcmp(kept->path, path, length) == 0) {
			kept->used = ++beneath->clock;
			return kept->directory;
		}
		if (kept->used < oldest->used)
			oldest = kept;
	}
	memcpy(parent, path, length);
	parent[length] = 0;
	int directory = open_directory(beneath, parent, make);
	if (directory < 0)
		return directory;
	if (oldest->directory >= 0)
		close(oldest->directory);
	memcpy(oldest->path, parent, length);
	oldest->length = length;
	oldest->directory = directory;
	oldest->used = ++beneath->clock;
	return directory;
}

int rl_find_parent(struct rl_beneath *beneath, const char *path, const char **name)
{
	return open_parent(beneath, path, false, name);
}

int rl_have_parent(struct rl_beneath *beneath, const char *path, const char **name)
{
	int parent = open_parent(beneath, path, true, name);

	if (parent >= 0)
		return parent;
	if (parent == TOLD)
		return -1;
	if (errno == ELOOP || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ENOENT)
		return rl_malformed(beneath->fault, errno == ELOOP ? "lies beneath a loop of symlinks" : "lies beneath something that is not a directory");
	return rl_refused(beneath->fault, "cannot open the directory it lies in");
}

void rl_beneath_begin(struct rl_beneath *beneath, int root, struct rl_whiteouts *whiteouts)
{
	beneath->root = root;
	beneath->fault = whiteouts->fault;
	beneath->whiteouts = whiteouts;
	for (size_t i = 0; i < RL_DIRECTORIES_KEPT; i++)
		beneath->kept[i].directory = -1;
}

void rl_beneath_end(struct rl_beneath *beneath)
{
	forget(beneath);
}
