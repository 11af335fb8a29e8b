/* unpack.c: from the entries of a tar to files beneath a descriptor: one maker for each type of entry, and the loop over them.
 *
 * What it stands on: blocks.c, pax.c and tar.c read the archive; whiteouts.c and beneath.c find the place of a file; finish.c sets what is set when the file
 * is complete; fault.h keeps why it ended. */
#define _GNU_SOURCE
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "beneath.h"
#include "fault.h"
#include "finish.h"
#include "tar.h"
#include "whiteouts.h"

struct unpacker {
	struct rl_unpack_result *result;
	struct rl_fault fault;
	struct rl_tar *tar;
	struct rl_whiteouts whiteouts;
	struct rl_beneath beneath;
	struct rl_finish finish;
};

/* ---- one entry */

/* The directory that the entry goes to, where no whiteout of its name remains. */
static int begin(struct unpacker *unpacker, const struct rl_tar_entry *entry, const char **name)
{
	int parent = rl_have_parent(&unpacker->beneath, entry->path, name);

	if (parent >= 0)
		(void)rl_drop_whiteout_file(&unpacker->whiteouts, parent, *name);
	return parent;
}

static int unpack_directory(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	const char *name;

	if (*entry->path) {
		int parent = rl_have_parent(&unpacker->beneath, entry->path, &name);
		if (parent < 0 || rl_have_directory(&unpacker->beneath, parent, name, true) < 0)
			return -1;
	}
	return rl_finish_late(&unpacker->finish, entry->path, &entry->attributes);
}

static int unpack_file(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	const char *name;
	int file;

	if (rl_tar_read_map(unpacker->tar) < 0)
		return -1;
	int parent = begin(unpacker, entry, &name);
	if (parent < 0)
		return -1;
	for (bool cleared = false;; cleared = true) {
		file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, entry->attributes.mode & 0777);
		if (file >= 0)
			break;
		if (errno != EEXIST || cleared)
			return rl_refused(&unpacker->fault, "cannot make the file");
		if (rl_clear_way(&unpacker->beneath, parent, name) < 0)
			return -1;
	}
	int result = rl_tar_copy(unpacker->tar, file, &unpacker->result->bytes);
	if (result == 0)
		result = rl_finish_file(&unpacker->finish, file, &entry->attributes);
	if (close(file) < 0 && result == 0) /* where a network file system says that there is no room */
		result = rl_refused(&unpacker->fault, "cannot write");
	return result;
}

/* A symlink or a fifo. */
static int unpack_special(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	const bool symlink = entry->type == RL_TAR_SYMLINK;
	const char *name;

	if (symlink && !*entry->link)
		return rl_malformed(&unpacker->fault, "is a link to nothing");
	int parent = begin(unpacker, entry, &name);
	if (parent < 0)
		return -1;
	for (bool cleared = false;; cleared = true) {
		int made = symlink ? symlinkat(entry->link, parent, name) : mknodat(parent, name, S_IFIFO | (entry->attributes.mode & 0777), 0);
		if (made == 0)
			return rl_finish_at(&unpacker->finish, parent, name, &entry->attributes);
		if (errno != EEXIST || cleared)
			return rl_refused(&unpacker->fault, symlink ? "cannot make the symlink" : "cannot make the fifo");
		if (rl_clear_way(&unpacker->beneath, parent, name) < 0)
			return -1;
	}
}

static int unpack_hard_link(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	static const char missing[] = "the file that it is a link to is not in the layer";
	char target[PATH_MAX];
	const char *name, *target_name;
	struct stat status, there;

	if (!*entry->link)
		return rl_malformed(&unpacker->fault, "is a link to nothing");
	if (rl_canonical(&unpacker->fault, entry->link, strlen(entry->link), target) < 0)
		return -1;
	if (!*target)
		return rl_malformed(&unpacker->fault, "is a hard link to a directory");
	int target_parent = rl_find_parent(&unpacker->beneath, target, &target_name);
	if (target_parent < 0 || fstatat(target_parent, target_name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
			return rl_malformed(&unpacker->fault, missing);
		return rl_refused(&unpacker->fault, "cannot find the file that it is a link to");
	}
	if (rl_is_whiteout(&status))
		return rl_malformed(&unpacker->fault, missing);
	if (S_ISDIR(status.st_mode))
		return rl_malformed(&unpacker->fault, "is a hard link to a directory");
	int parent = begin(unpacker, entry, &name);
	if (parent < 0)
		return -1;
	for (bool cleared = false;; cleared = true) {
		if (linkat(target_parent, target_name, parent, name, 0) == 0)
			return 0;
		if (errno == ENOENT)
			return rl_malformed(&unpacker->fault, missing);
		if (errno != EEXIST || cleared)
			return rl_refused(&unpacker->fault, "cannot make the hard link");
		if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_dev == status.st_dev && there.st_ino == status.st_ino)
			return 0;
		if (rl_clear_way(&unpacker->beneath, parent, name) < 0)
			return -1;
	}
}

static int unpack_whiteout(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	const char *name;
	int parent = rl_have_parent(&unpacker->beneath, entry->path, &name);

	return parent < 0 ? -1 : rl_make_whiteout(&unpacker->whiteouts, parent, name);
}

static int unpack_opaque(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	const char *name;
	int directory = rl_have_parent(&unpacker->beneath, entry->path, &name);

	if (directory < 0)
		return -1;
	if (name == entry->path)
		unpacker->result->opaque_root = true;
	return rl_mark_opaque(&unpacker->whiteouts, directory, ".");
}

/* ---- all of them */

static int unpack_by_type(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	switch (entry->type) {
	case RL_TAR_FILE:
	case RL_TAR_GNU_SPARSE:
		return unpack_file(unpacker, entry);
	case RL_TAR_DIRECTORY:
		return unpack_directory(unpacker, entry);
	case RL_TAR_HARD_LINK:
		return unpack_hard_link(unpacker, entry);
	default:
		return unpack_special(unpacker, entry);
	}
}

static int unpack_entry(struct unpacker *unpacker, const struct rl_tar_entry *entry)
{
	const bool device = entry->type == RL_TAR_CHARACTER_DEVICE || entry->type == RL_TAR_BLOCK_DEVICE;
	int kind = rl_kind_of_name(&unpacker->fault, entry->path);

	if (kind < 0)
		return -1;
	if (kind != RL_NAME_FILE && entry->type == RL_TAR_GNU_SPARSE)
		return rl_malformed(&unpacker->fault, "a whiteout is not a sparse file");
	if (kind == RL_NAME_METADATA)
		return 0;
	if (kind == RL_NAME_FILE && !*entry->path && entry->type != RL_TAR_DIRECTORY)
		return rl_hostile(&unpacker->fault, "the root is not a directory");
	if (kind == RL_NAME_FILE && device) {
		unpacker->result->skipped_devices++;
		return 0;
	}
	unpacker->result->entries++;
	switch (kind) {
	case RL_NAME_WHITEOUT:
		return unpack_whiteout(unpacker, entry);
	case RL_NAME_OPAQUE:
		return unpack_opaque(unpacker, entry);
	default:
		return unpack_by_type(unpacker, entry);
	}
}

static int unpack_entries(struct unpacker *unpacker)
{
	struct rl_tar_entry *entry;
	int got;

	while ((got = rl_tar_next(unpacker->tar, &entry)) > 0)
		if (unpack_entry(unpacker, entry) < 0)
			return -1;
	return got;
}

/* What the root directory has inherited from the host must not pass on to the files of the image. */
static int prepare_root(struct unpacker *unpacker, int root)
{
	struct stat status;

	(void)fremovexattr(root, "system.posix_acl_default");
	(void)fremovexattr(root, "system.posix_acl_access");
	if (fstat(root, &status) < 0)
		return rl_refused(&unpacker->fault, "cannot unpack");
	if (status.st_mode & S_ISGID && fchmod(root, status.st_mode & 0777) < 0)
		return rl_refused(&unpacker->fault, "cannot set the mode of the root");
	return 0;
}

static int make_durable(struct unpacker *unpacker, int root)
{
	unpacker->fault.entry_size = 0;
	return syncfs(root) < 0 ? rl_refused(&unpacker->fault, "cannot make the layer durable") : 0;
}

int rl_unpack(int tar_fd, int root_fd, const struct rl_unpack_options *options, struct rl_unpack_result *result)
{
	*result = (struct rl_unpack_result){ .class = RL_UNPACK_DONE };
	struct unpacker *unpacker = calloc(1, sizeof *unpacker);
	if (!unpacker || !(unpacker->tar = rl_tar_begin(tar_fd, &unpacker->fault))) {
		*result = (struct rl_unpack_result){ .class = RL_UNPACK_HOST, .error = ENOMEM, .text = "cannot unpack" };
		free(unpacker);
		return -1;
	}
	unpacker->result = result;
	unpacker->whiteouts = (struct rl_whiteouts){ .fault = &unpacker->fault, .as_files = options->whiteout_files };
	rl_beneath_begin(&unpacker->beneath, root_fd, &unpacker->whiteouts);
	unpacker->finish = (struct rl_finish){ .fault = &unpacker->fault, .single_id = options->single_id };
	umask(0);

	bool failed = prepare_root(unpacker, root_fd) < 0 || unpack_entries(unpacker) < 0 || rl_finish_directories(&unpacker->finish, &unpacker->beneath) < 0 ||
		      (options->durable && make_durable(unpacker, root_fd) < 0);
	result->skipped_xattrs = unpacker->finish.skipped_xattrs;
	if (failed) {
		result->class = unpacker->fault.class;
		result->error = unpacker->fault.error;
		memcpy(result->text, unpacker->fault.text, sizeof result->text);
	}
	rl_finish_end(&unpacker->finish);
	rl_beneath_end(&unpacker->beneath);
	rl_tar_end(unpacker->tar);
	free(unpacker);
	return failed ? -1 : 0;
}
