/* whiteouts.c: how a layer hides what is below it. */
#define _GNU_SOURCE
#include "whiteouts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

const char *rl_last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int rl_kind_of_name(struct rl_fault *fault, const char *path)
{
	const char *base = rl_last_component(path);

	for (const char *component = path; component < base; component = strchr(component, '/') + 1) {
		if (rl_starts(component, RL_WHITEOUT_META))
			return RL_NAME_METADATA;
		if (rl_starts(component, RL_WHITEOUT))
			return rl_malformed(fault, "lies beneath a whiteout");
	}
	if (strcmp(base, RL_WHITEOUT_OPAQUE) == 0)
		return RL_NAME_OPAQUE;
	if (rl_starts(base, RL_WHITEOUT_META))
		return RL_NAME_METADATA;
	if (!rl_starts(base, RL_WHITEOUT))
		return RL_NAME_FILE;
	const char *hidden = base + strlen(RL_WHITEOUT);
	if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return rl_hostile(fault, "is a whiteout of no name");
	return RL_NAME_WHITEOUT;
}

bool rl_is_whiteout(const struct stat *status)
{
	return S_ISCHR(status->st_mode) && status->st_rdev == 0;
}

/* Make an empty file; that it is there already is well. */
static int make_marker(int directory, const char *name)
{
	int file = openat(directory, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (file >= 0)
		close(file);
	return file < 0 ? -1 : 0;
}

int rl_make_whiteout(struct rl_whiteouts *whiteouts, int parent, const char *entry)
{
	const char *name = entry + strlen(RL_WHITEOUT);
	struct stat status;

	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISDIR(status.st_mode) ? rl_mark_opaque(whiteouts, parent, name) : 0;
	if (errno != ENOENT)
		return rl_refused(whiteouts->fault, "cannot make the whiteout");
	if (whiteouts->as_files) {
		whiteouts->files_made = true;
		return make_marker(parent, entry) < 0 ? rl_refused(whiteouts->fault, "cannot make the whiteout") : 0;
	}
	return mknodat(parent, name, S_IFCHR, 0) < 0 ? rl_refused(whiteouts->fault, "cannot make the whiteout, a device node 0:0") : 0;
}

bool rl_drop_whiteout_file(const struct rl_whiteouts *whiteouts, int parent, const char *name)
{
	const size_t length = strlen(name);
	char file[NAME_MAX + 1];

	if (!whiteouts->files_made || length > NAME_MAX - strlen(RL_WHITEOUT)) /* one of a longer name cannot be there */
		return false;
	memcpy(file, RL_WHITEOUT, strlen(RL_WHITEOUT));
	memcpy(file + strlen(RL_WHITEOUT), name, length + 1);
	return unlinkat(parent, file, 0) == 0;
}

int rl_mark_opaque(struct rl_whiteouts *whiteouts, int parent, const char *name)
{
	int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (directory < 0)
		return rl_refused(whiteouts->fault, "cannot open the directory");
	int result = whiteouts->as_files ? make_marker(directory, RL_WHITEOUT_OPAQUE) : fsetxattr(directory, RL_XATTR_OPAQUE, "y", 1, 0);
	if (result < 0)
		rl_refused(whiteouts->fault, "cannot mark the directory as opaque");
	close(directory);
	return result;
}
