/* finish.c: owners, attributes, modes and times of what was unpacked. */
#define _GNU_SOURCE
#include "finish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array.h"
#include "pax.h"

enum { LATE_MAX = 256 << 20 }; /* bytes remembered of directories: some two millions of them */

/* ---- owners */

static char *append_number(char *text, uint64_t number)
{
	char digits[20];
	size_t count = 0;

	do
		digits[count++] = (char)('0' + number % 10);
	while (number /= 10);
	while (count)
		*text++ = digits[--count];
	return text;
}

static char *append(char *text, const char *more)
{
	size_t size = strlen(more);

	memcpy(text, more, size + 1);
	return text + size;
}

/* chown(2) has failed; with EINVAL where the id map does not hold the owner. */
static int chown_failed(struct rl_finish *finish, const struct rl_attributes *attributes)
{
	const uint32_t uid = attributes->uid, gid = attributes->gid;
	char what[128], *at = append(what, "its owner ");

	if (errno != EINVAL)
		return rl_refused(finish->fault, "cannot set the owner");
	at = append_number(at, uid);
	at = append(at, ":");
	at = append_number(at, gid);
	at = append(at, " is outside the id map, which would need ");
	at = append_number(at, (uint64_t)(uid > gid ? uid : gid) + 1);
	append(at, " ids");
	return rl_fail(finish->fault, RL_UNPACK_HOST, EINVAL, what);
}

/* Write the true owner to an attribute. */
static int record_owner(struct rl_finish *finish, int file, const struct rl_attributes *attributes)
{
	char owner[24], *at = append_number(owner, attributes->uid);

	*at++ = ':';
	at = append_number(at, attributes->gid);
	if (fsetxattr(file, RL_XATTR_OWNER, owner, (size_t)(at - owner), 0) == 0)
		return 0;
	if (errno != ENOTSUP)
		return rl_refused(finish->fault, "cannot record the owner in an attribute");
	finish->skipped_xattrs++;
	return 0;
}

/* ---- extended attributes */

static int set_xattr(struct rl_finish *finish, int file, const struct rl_xattr *xattr)
{
	const bool capability = strcmp(xattr->name, "security.capability") == 0;

	if (rl_xattr_is_ours(xattr->name))
		return 0;
	if (file >= 0 && fsetxattr(file, xattr->name, xattr->value, xattr->size, 0) == 0)
		return 0;
	if (file >= 0 && (errno == EINVAL || errno == ERANGE))
		return rl_malformed(finish->fault, capability ? "its file capabilities are damaged" : "has an impossible attribute");
	if (file >= 0 && errno != ENOTSUP && (errno != EPERM || capability))
		return rl_refused(finish->fault, capability ? "cannot set the file capabilities" : "cannot set an attribute");
	finish->skipped_xattrs++;
	return 0;
}

/* file: -1 where the type of file can have none. The records are changed. */
static int set_xattrs(struct rl_finish *finish, int file, const struct rl_attributes *attributes)
{
	char *at = attributes->records, *end = at + attributes->records_size;
	struct rl_xattr xattr;
	int got;

	while ((got = rl_next_xattr(&at, end, &xattr)) > 0)
		if (set_xattr(finish, file, &xattr) < 0)
			return -1;
	return got < 0 ? rl_malformed(finish->fault, "has a damaged attribute") : 0;
}

/* ---- files */

static int set_attributes(struct rl_finish *finish, int file, const struct rl_attributes *attributes, bool directory)
{
	const struct timespec times[2] = { attributes->mtime, attributes->mtime };
	const bool foreign = attributes->uid || attributes->gid;

	if (finish->single_id && foreign) {
		if (record_owner(finish, file, attributes) < 0)
			return -1;
	} else if ((foreign || directory) && fchown(file, attributes->uid, attributes->gid) < 0) {
		return chown_failed(finish, attributes);
	}
	/* chown(2) takes file capabilities and set-id bits away: only now. */
	if (attributes->records && set_xattrs(finish, file, attributes) < 0)
		return -1;
	if ((directory || attributes->mode & 07000) && fchmod(file, attributes->mode) < 0)
		return rl_refused(finish->fault, "cannot set the mode");
	if (futimens(file, times) < 0)
		return rl_refused(finish->fault, "cannot set the times");
	return 0;
}

int rl_finish_file(struct rl_finish *finish, int file, const struct rl_attributes *attributes)
{
	return set_attributes(finish, file, attributes, false);
}

int rl_finish_at(struct rl_finish *finish, int parent, const char *name, const struct rl_attributes *attributes)
{
	const struct timespec times[2] = { attributes->mtime, attributes->mtime };

	if ((attributes->uid || attributes->gid) && !finish->single_id &&
	    fchownat(parent, name, attributes->uid, attributes->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return chown_failed(finish, attributes);
	if (attributes->records && set_xattrs(finish, -1, attributes) < 0)
		return -1;
	if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return rl_refused(finish->fault, "cannot set the times");
	return 0;
}

/* ---- directories */

int rl_finish_late(struct rl_finish *finish, const char *path, const struct rl_attributes *attributes)
{
	const size_t length = strlen(path) + 1;
	struct rl_late late = { finish->paths_size, *attributes };

	if (finish->paths_size + finish->late_records + (finish->late_count + 1) * sizeof late + length + late.attributes.records_size > LATE_MAX)
		return rl_hostile(finish->fault, "the archive has too many directories");
	void *larger = rl_grown(finish->late, finish->late_count, &finish->late_capacity, sizeof late, LATE_MAX / sizeof late);
	if (!larger)
		return rl_refused(finish->fault, "cannot unpack");
	finish->late = larger;
	while (finish->paths_capacity - finish->paths_size < length) {
		larger = rl_grown(finish->paths, finish->paths_capacity, &finish->paths_capacity, 1, LATE_MAX);
		if (!larger)
			return rl_refused(finish->fault, "cannot unpack");
		finish->paths = larger;
	}
	if (attributes->records) {
		late.attributes.records = malloc(attributes->records_size);
		if (!late.attributes.records)
			return rl_refused(finish->fault, "cannot unpack");
		memcpy(late.attributes.records, attributes->records, attributes->records_size);
		finish->late_records += attributes->records_size;
	}
	memcpy(finish->paths + finish->paths_size, path, length);
	finish->late[finish->late_count++] = late;
	finish->paths_size += length;
	return 0;
}

int rl_finish_directories(struct rl_finish *finish, struct rl_beneath *beneath)
{
	for (size_t i = 0; i < finish->late_count; i++) {
		const struct rl_late *late = &finish->late[i];
		const char *path = finish->paths + late->path, *name;

		rl_name_entry(finish->fault, path, strlen(path));
		int parent = rl_find_parent(beneath, path, &name);
		int directory = parent < 0 ? -1 : openat(parent, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (directory < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
			continue;
		if (directory < 0)
			return rl_refused(finish->fault, "cannot open the directory");
		int result = set_attributes(finish, directory, &late->attributes, true);
		close(directory);
		if (result < 0)
			return -1;
	}
	return 0;
}

void rl_finish_end(struct rl_finish *finish)
{
	for (size_t i = 0; i < finish->late_count; i++)
		free(finish->late[i].attributes.records);
	free(finish->late);
	free(finish->paths);
}
