/* pack.c: from files beneath a descriptor to a stream of tar blocks.
 *
 * One directory is open at a time, and the names of the directories above it are kept: memory is bounded by what one path passes through. A directory is
 * opened anew, by its path beneath the root and through no symlink, when the walk comes back to it. */
#define _GNU_SOURCE
#include "pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "archive.h"
#include "array.h"
#include "syscalls.h"

enum {
	BUFFER = 1 << 20,
	XATTRS_MAX = 1 << 16, /* XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h */
	BUCKETS = 4096,
};

/* A file with further names, until all of them were seen. */
struct linked {
	struct linked *next;
	dev_t device;
	ino_t inode;
	nlink_t left;
	char path[];
};

struct name {
	bool whiteout;
	char text[];
};

/* A directory that the walk is in. */
struct level {
	struct name **names;
	size_t count, next;
	size_t path_length; /* of the directory's own path in packer.path */
};

struct packer {
	struct rl_pack_result *result;
	int root, tar;
	dev_t device;
	unsigned char *buffer;
	size_t used;
	char path[PATH_MAX];
	char *records; /* the extended header being made */
	size_t records_size, records_capacity;
	char *xattr_names, *xattr_value;
	struct linked *linked[BUCKETS];
	struct level *levels;
	size_t depth, level_capacity;
};

static int fail(struct packer *packer, const char *what)
{
	packer->result->error = errno;
	rl_describe(packer->result->text, sizeof packer->result->text, packer->path, strlen(packer->path), what);
	return -1;
}

static int fail_with(struct packer *packer, int error, const char *what)
{
	errno = error;
	return fail(packer, what);
}

/* ---- the stream */

static int flush(struct packer *packer)
{
	for (size_t done = 0; done < packer->used;) {
		ssize_t written = write(packer->tar, packer->buffer + done, packer->used - done);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return fail(packer, "cannot write the archive");
		done += (size_t)written;
	}
	packer->used = 0;
	return 0;
}

static int put(struct packer *packer, const void *data, size_t size)
{
	while (size) {
		if (packer->used == BUFFER && flush(packer) < 0)
			return -1;
		size_t piece = BUFFER - packer->used < size ? BUFFER - packer->used : size;
		memcpy(packer->buffer + packer->used, data, piece);
		packer->used += piece;
		data = (const char *)data + piece;
		size -= piece;
	}
	return 0;
}

static int put_padding(struct packer *packer, uint64_t size)
{
	static const char zeros[RL_BLOCK];

	return put(packer, zeros, (RL_BLOCK - size % RL_BLOCK) % RL_BLOCK);
}

static int put_contents(struct packer *packer, int file, uint64_t size)
{
	for (uint64_t left = size; left;) {
		if (packer->used == BUFFER && flush(packer) < 0)
			return -1;
		size_t room = BUFFER - packer->used;
		ssize_t got = read(file, packer->buffer + packer->used, left < room ? left : room);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail(packer, "cannot read");
		if (got == 0)
			return fail_with(packer, EAGAIN, "became shorter while it was read");
		packer->used += (size_t)got;
		left -= (size_t)got;
	}
	packer->result->bytes += size;
	return put_padding(packer, size);
}

/* ---- headers */

/* `size` - 1 octal digits and a NUL. Whether the number has the room. */
static bool octal(char *field, size_t size, uint64_t number)
{
	for (size_t i = size - 1; i-- > 0; number >>= 3)
		field[i] = (char)('0' + (number & 7));
	return number == 0;
}

/* Add a record to the extended header: its length counts itself. */
static int add_record(struct packer *packer, const char *prefix, const char *key, const void *value, size_t size)
{
	const size_t body = 1 + strlen(prefix) + strlen(key) + 1 + size + 1;
	char digits[24];
	size_t length = body;

	for (;;) {
		size_t total = body + (size_t)snprintf(digits, sizeof digits, "%zu", length);
		if (total == length)
			break;
		length = total;
	}
	if (packer->records_capacity - packer->records_size < length + 1) {
		size_t capacity = (packer->records_size + length + 1) * 2;
		char *larger = realloc(packer->records, capacity);
		if (!larger)
			return fail(packer, "cannot pack");
		packer->records = larger;
		packer->records_capacity = capacity;
	}
	char *at = packer->records + packer->records_size;
	at += snprintf(at, length + 1, "%s %s%s=", digits, prefix, key);
	memcpy(at, value, size);
	at[size] = '\n';
	packer->records_size += length;
	return 0;
}

static int add_number(struct packer *packer, const char *key, uint64_t number)
{
	char digits[24];

	return add_record(packer, "", key, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)number));
}

static int add_time(struct packer *packer, const struct timespec *time)
{
	char text[48];
	long long seconds = time->tv_sec;
	long nanoseconds = time->tv_nsec;
	const bool negative = seconds < 0;

	if (negative && nanoseconds) { /* -1.75 is kept as -2 s and 250000000 ns */
		seconds++;
		nanoseconds = 1000000000 - nanoseconds;
	}
	int size = snprintf(text, sizeof text, "%s%lld.%09ld", negative ? "-" : "", negative ? -seconds : seconds, nanoseconds);
	while (text[size - 1] == '0')
		size--;
	if (text[size - 1] == '.')
		size--;
	return add_record(packer, "", "mtime", text, (size_t)size);
}

static int put_header(struct packer *packer, struct rl_tar_header *header)
{
	memcpy(header->magic, "ustar", sizeof header->magic);
	memcpy(header->version, "00", sizeof header->version);
	octal(header->checksum, sizeof header->checksum - 1, rl_checksum(header, false));
	header->checksum[sizeof header->checksum - 1] = ' ';
	return put(packer, header, sizeof *header);
}

/* A text field, which needs no NUL when it is full. Whether the text has the room. */
static bool text_field(char *field, size_t size, const char *text)
{
	const size_t length = strnlen(text, size);

	memcpy(field, text, length);
	return !text[length];
}

static int put_entry(struct packer *packer, const char *path, char type, const struct stat *status, const char *link, uint64_t size)
{
	struct rl_tar_header header = { .type = type };

	if (!text_field(header.name, sizeof header.name, path) && add_record(packer, "", "path", path, strlen(path)) < 0)
		return -1;
	if (!text_field(header.link, sizeof header.link, link) && add_record(packer, "", "linkpath", link, strlen(link)) < 0)
		return -1;
	octal(header.mode, sizeof header.mode, status->st_mode & 07777);
	if (!octal(header.uid, sizeof header.uid, status->st_uid) && add_number(packer, "uid", status->st_uid) < 0)
		return -1;
	if (!octal(header.gid, sizeof header.gid, status->st_gid) && add_number(packer, "gid", status->st_gid) < 0)
		return -1;
	if (!octal(header.size, sizeof header.size, size) && add_number(packer, "size", size) < 0)
		return -1;
	const bool plain_time = status->st_mtim.tv_sec >= 0 && octal(header.mtime, sizeof header.mtime, (uint64_t)status->st_mtim.tv_sec);
	if ((!plain_time || status->st_mtim.tv_nsec) && add_time(packer, &status->st_mtim) < 0)
		return -1;
	if (type == '3' || type == '4') {
		octal(header.devmajor, sizeof header.devmajor, major(status->st_rdev));
		octal(header.devminor, sizeof header.devminor, minor(status->st_rdev));
	}
	if (packer->records_size) {
		struct rl_tar_header extended = { .name = "pax", .type = 'x' };

		octal(extended.mode, sizeof extended.mode, 0644);
		octal(extended.uid, sizeof extended.uid, 0);
		octal(extended.gid, sizeof extended.gid, 0);
		octal(extended.mtime, sizeof extended.mtime, 0);
		octal(extended.size, sizeof extended.size, packer->records_size);
		if (put_header(packer, &extended) < 0 || put(packer, packer->records, packer->records_size) < 0 ||
		    put_padding(packer, packer->records_size) < 0)
			return -1;
		packer->records_size = 0;
	}
	packer->result->entries++;
	return put_header(packer, &header);
}

/* ---- attributes */

/* Version 3 is version 2 with the root id of a namespace, which means nothing elsewhere (capabilities(7)). */
static size_t as_version_2(char *value, size_t size)
{
	if (size != 24 || value[3] != 3)
		return size;
	value[3] = 2;
	return 20;
}

/* Read back the owner that an unpack with a single id recorded. */
static void restore_owner(const char *value, struct stat *status)
{
	unsigned uid, gid;

	if (sscanf(value, "%u:%u", &uid, &gid) == 2) {
		status->st_uid = uid;
		status->st_gid = gid;
	}
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Add the attributes of a file or directory to the extended header, in the order of their names. */
static int add_xattrs(struct packer *packer, int file, struct stat *status, bool *opaque)
{
	ssize_t size = flistxattr(file, packer->xattr_names, XATTRS_MAX);

	if (size < 0)
		return errno == ENOTSUP ? 0 : fail(packer, "cannot list the attributes");
	if (size == 0)
		return 0;
	size_t count = 0, capacity = (size_t)size / 2 + 1; /* a name has a letter and a NUL at the least */
	char **names = calloc(capacity, sizeof *names);
	if (!names)
		return fail(packer, "cannot pack");
	for (char *name = packer->xattr_names; name < packer->xattr_names + size && count < capacity; name += strlen(name) + 1)
		names[count++] = name;
	qsort(names, count, sizeof *names, compare_texts);

	int result = 0;
	for (size_t i = 0; i < count && result == 0; i++) {
		const bool wanted = !rl_xattr_is_ours(names[i]) &&
				    (rl_starts(names[i], "user.") || rl_starts(names[i], "system.posix_acl_") || strcmp(names[i], "security.capability") == 0);
		const bool owner = strcmp(names[i], RL_XATTR_OWNER) == 0, mark = strcmp(names[i], RL_XATTR_OPAQUE) == 0;

		if (!wanted && !owner && !mark)
			continue;
		ssize_t length = fgetxattr(file, names[i], packer->xattr_value, XATTRS_MAX);
		if (length < 0 && errno == ENODATA)
			continue; /* removed meanwhile */
		if (length < 0) {
			result = fail(packer, "cannot read an attribute");
			continue;
		}
		packer->xattr_value[length] = 0;
		if (owner)
			restore_owner(packer->xattr_value, status);
		else if (mark)
			*opaque = strcmp(packer->xattr_value, "y") == 0;
		else
			result = add_record(packer, RL_XATTR_PAX, names[i], packer->xattr_value,
					    strcmp(names[i], "security.capability") == 0 ? as_version_2(packer->xattr_value, (size_t)length) : (size_t)length);
	}
	free(names);
	return result;
}

/* ---- hard links */

static size_t bucket_of(const struct stat *status)
{
	return (size_t)(status->st_ino * 0x9e3779b97f4a7c15u >> 40) % BUCKETS;
}

/* The place of a file among those with several names: it holds the name that was written first, or NULL. */
static struct linked **find_linked(struct packer *packer, const struct stat *status)
{
	struct linked **place = &packer->linked[bucket_of(status)];

	while (*place && ((*place)->inode != status->st_ino || (*place)->device != status->st_dev))
		place = &(*place)->next;
	return place;
}

static int remember_linked(struct packer *packer, struct linked **place, const struct stat *status)
{
	const size_t size = strlen(packer->path) + 1;
	struct linked *linked = malloc(sizeof *linked + size);

	if (!linked)
		return fail(packer, "cannot pack");
	linked->next = *place;
	linked->device = status->st_dev;
	linked->inode = status->st_ino;
	linked->left = status->st_nlink - 1;
	memcpy(linked->path, packer->path, size);
	*place = linked;
	return 0;
}

/* Write a further name of a file that was written. */
static int put_link(struct packer *packer, struct linked **place, const struct stat *status)
{
	struct linked *linked = *place;

	int result = put_entry(packer, packer->path, '1', status, linked->path, 0);
	if (--linked->left == 0) {
		*place = linked->next;
		free(linked);
	}
	return result;
}

/* ---- directories */

static int compare_names(const void *a, const void *b)
{
	const struct name *first = *(struct name *const *)a, *second = *(struct name *const *)b;

	if (first->whiteout != second->whiteout)
		return first->whiteout ? -1 : 1;
	return strcmp(first->text, second->text);
}

static bool is_whiteout(int directory, const struct dirent *entry)
{
	struct stat status;

	if (entry->d_type != DT_CHR && entry->d_type != DT_UNKNOWN)
		return rl_starts(entry->d_name, RL_WHITEOUT);
	return fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == 0;
}

static void free_level(struct level *level)
{
	for (size_t i = level->next; i < level->count; i++)
		free(level->names[i]);
	free(level->names);
}

/* Read the names of a directory, sorted, into a new level. Takes over the descriptor. */
static int enter(struct packer *packer, int directory, bool empty)
{
	struct level level = { .path_length = strlen(packer->path) };
	size_t capacity = 0;
	const struct dirent *entry;

	void *larger = rl_grown(packer->levels, packer->depth, &packer->level_capacity, sizeof *packer->levels, SIZE_MAX / sizeof *packer->levels);
	if (!larger) {
		close(directory);
		return fail(packer, "cannot pack");
	}
	packer->levels = larger;
	DIR *stream = fdopendir(directory);
	if (!stream) {
		close(directory);
		return fail(packer, "cannot read the directory");
	}
	int result = 0;
	while (!empty && (errno = 0, entry = readdir(stream))) {
		const size_t size = strlen(entry->d_name) + 1;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		larger = rl_grown(level.names, level.count, &capacity, sizeof *level.names, SIZE_MAX / sizeof *level.names);
		if (!larger)
			break;
		level.names = larger;
		struct name *name = malloc(sizeof *name + size);
		if (!name)
			break;
		name->whiteout = is_whiteout(directory, entry);
		memcpy(name->text, entry->d_name, size);
		level.names[level.count++] = name;
	}
	if (!empty && errno)
		result = fail(packer, "cannot read the directory");
	closedir(stream);
	if (level.count)
		qsort(level.names, level.count, sizeof *level.names, compare_names);
	if (result < 0)
		free_level(&level);
	else
		packer->levels[packer->depth++] = level;
	return result;
}

/* Open a directory of the tree again. Every component was a directory a moment ago; that one is a symlink now must not lead us out. */
static int reopen(struct packer *packer)
{
	struct rl_open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = 0x08 /* RESOLVE_BENEATH */ | 0x04 /* RESOLVE_NO_SYMLINKS */ };
	char name[NAME_MAX + 1];

	int directory = rl_openat2(packer->root, *packer->path ? packer->path : ".", &how);
	if (directory >= 0 || (errno != ENOSYS && errno != EPERM))
		return directory;
	directory = openat(packer->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (const char *at = packer->path; directory >= 0 && *at;) {
		const size_t size = strcspn(at, "/");
		memcpy(name, at, size);
		name[size] = 0;
		at += size + (at[size] == '/');
		int next = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int saved = errno;
		close(directory);
		errno = saved;
		directory = next;
	}
	return directory;
}

/* ---- entries */

/* Write an entry that stands for a deletion. */
static int put_whiteout(struct packer *packer, const char *name)
{
	const struct stat status = { .st_mode = 0 };
	char path[PATH_MAX + NAME_MAX];
	const char *base = strrchr(packer->path, '/');
	const size_t directory = base ? (size_t)(base - packer->path) + 1 : 0;

	snprintf(path, sizeof path, "%.*s%s%s", (int)directory, packer->path, RL_WHITEOUT, name);
	return put_entry(packer, path, '0', &status, "", 0);
}

/* Write a directory's entry and go into it. Takes over the descriptor. */
static int pack_directory(struct packer *packer, int directory)
{
	char path[PATH_MAX + 1 + sizeof RL_WHITEOUT_OPAQUE];
	const struct stat nobody = { .st_mode = 0 };
	struct stat status;
	bool opaque = false;

	if (fstat(directory, &status) < 0) {
		close(directory);
		return fail(packer, "cannot read the directory");
	}
	snprintf(path, sizeof path, "%s/", *packer->path ? packer->path : ".");
	int result = add_xattrs(packer, directory, &status, &opaque);
	if (result == 0)
		result = put_entry(packer, path, '5', &status, "", 0);
	if (result == 0 && opaque) {
		snprintf(path, sizeof path, "%s%s%s", packer->path, *packer->path ? "/" : "", RL_WHITEOUT_OPAQUE);
		result = put_entry(packer, path, '0', &nobody, "", 0);
	}
	if (result < 0) {
		close(directory);
		return -1;
	}
	return enter(packer, directory, status.st_dev != packer->device);
}

static int pack_file(struct packer *packer, int parent, const char *name)
{
	struct stat status;
	bool opaque;

	/* O_NONBLOCK: a fifo that has taken the place of a file must not hold us up */
	int file = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (file < 0)
		return fail(packer, "cannot open");
	int result = fstat(file, &status) < 0 ? fail(packer, "cannot read") : 0;
	if (result == 0 && !S_ISREG(status.st_mode))
		result = fail_with(packer, EAGAIN, "was replaced while it was read");
	if (result == 0)
		result = add_xattrs(packer, file, &status, &opaque);
	if (result == 0)
		result = put_entry(packer, packer->path, '0', &status, "", (uint64_t)status.st_size);
	if (result == 0)
		result = put_contents(packer, file, (uint64_t)status.st_size);
	close(file);
	return result;
}

/* Write the entry `name` of the open directory `parent`, whose path with it is packer->path. */
static int pack_name(struct packer *packer, int parent, const char *name)
{
	char target[PATH_MAX] = "";
	struct linked **linked = NULL;
	struct stat status;

	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(packer, "cannot read");
	if (S_ISDIR(status.st_mode)) {
		int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		return directory < 0 ? fail(packer, "cannot open the directory") : pack_directory(packer, directory);
	}
	if (S_ISCHR(status.st_mode) && status.st_rdev == 0)
		return put_whiteout(packer, name);
	if (S_ISSOCK(status.st_mode)) {
		packer->result->skipped_sockets++;
		return 0;
	}
	if (status.st_nlink > 1) {
		linked = find_linked(packer, &status);
		if (*linked)
			return put_link(packer, linked, &status);
		if (remember_linked(packer, linked, &status) < 0)
			return -1;
	}
	if (S_ISREG(status.st_mode))
		return pack_file(packer, parent, name);
	if (S_ISLNK(status.st_mode)) {
		ssize_t size = readlinkat(parent, name, target, sizeof target - 1);
		if (size < 0)
			return fail(packer, "cannot read the symlink");
		target[size] = 0;
		status.st_mode |= 0777;
		return put_entry(packer, packer->path, '2', &status, target, 0);
	}
	return put_entry(packer, packer->path, S_ISFIFO(status.st_mode) ? '6' : S_ISCHR(status.st_mode) ? '3' : '4', &status, "", 0);
}

static int pack_tree(struct packer *packer)
{
	int directory = -1, result = 0;

	int root = openat(packer->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fail(packer, "cannot open the directory");
	result = pack_directory(packer, root);
	while (result == 0 && packer->depth) {
		struct level *level = &packer->levels[packer->depth - 1];
		const size_t depth = packer->depth;

		packer->path[level->path_length] = 0;
		if (level->next == level->count) {
			free_level(level);
			packer->depth--;
			if (directory >= 0)
				close(directory);
			directory = -1;
			continue;
		}
		if (directory < 0 && (directory = reopen(packer)) < 0) {
			result = fail(packer, "cannot open the directory");
			break;
		}
		struct name *name = level->names[level->next++];
		const size_t size = strlen(name->text);
		size_t at = level->path_length;
		if (at + size + 2 > sizeof packer->path) {
			result = fail_with(packer, ENAMETOOLONG, "has a file with too long a path");
		} else {
			if (at)
				packer->path[at++] = '/';
			memcpy(packer->path + at, name->text, size + 1);
			result = pack_name(packer, directory, name->text);
		}
		free(name);
		if (packer->depth != depth) { /* it was a directory, and we are in it */
			close(directory);
			directory = -1;
		}
	}
	if (directory >= 0)
		close(directory);
	return result;
}

static void release(struct packer *packer)
{
	while (packer->depth)
		free_level(&packer->levels[--packer->depth]);
	free(packer->levels);
	for (size_t i = 0; i < BUCKETS; i++)
		while (packer->linked[i]) {
			struct linked *linked = packer->linked[i];
			packer->linked[i] = linked->next;
			free(linked);
		}
	free(packer->buffer);
	free(packer->records);
	free(packer->xattr_names);
	free(packer->xattr_value);
	free(packer);
}

int rl_pack(int root_fd, int tar_fd, struct rl_pack_result *result)
{
	static const char end[2 * RL_BLOCK];
	struct stat status;

	*result = (struct rl_pack_result){ .error = 0 };
	struct packer *packer = calloc(1, sizeof *packer);
	if (!packer) {
		*result = (struct rl_pack_result){ .error = ENOMEM, .text = "cannot pack" };
		return -1;
	}
	packer->result = result;
	packer->root = root_fd;
	packer->tar = tar_fd;
	packer->buffer = malloc(BUFFER);
	packer->xattr_names = malloc(XATTRS_MAX);
	packer->xattr_value = malloc(XATTRS_MAX + 1);
	int failed;
	if (!packer->buffer || !packer->xattr_names || !packer->xattr_value || fstat(root_fd, &status) < 0) {
		failed = fail(packer, "cannot pack");
	} else {
		packer->device = status.st_dev;
		failed = pack_tree(packer);
	}
	if (!failed)
		failed = put(packer, end, sizeof end) < 0 || flush(packer) < 0;
	release(packer);
	return failed ? -1 : 0;
}
