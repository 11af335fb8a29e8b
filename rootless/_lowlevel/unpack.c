/* unpack.c: from a stream of tar blocks to files beneath a descriptor.
 *
 * In the order of this file: the stream; numbers; names; extended headers; directories, found beneath the root; attributes; one maker for each type
 * of entry; the loop over the headers.
 *
 * A directory's owner, mode, times and attributes are set after the last entry: times would change with each file made in it, a default ACL or the set-group-id
 * bit would pass on to its files. Until then all directories are 0755 and of root, so that a file of root needs no chown(2): most files cost
 * openat, write, utimensat, close.
 *
 * Where a field is out of order the rules of Go's archive/tar, which Docker unpacks with, are followed: an archive must not mean one thing to those who
 * check it and another to us. */
#define _GNU_SOURCE
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "archive.h"
#include "syscalls.h"
#include "tree.h"

enum {
	BUFFER = 1 << 20,
	RECORDS_MAX = 1 << 20,   /* bytes of extended headers for one entry */
	EXTENTS_MAX = 1 << 20,   /* pieces of one sparse file */
	LATE_MAX = 256 << 20,    /* bytes remembered of directories: some two millions of them */
	SYMLINKS_MAX = 40,       /* as the kernel's own limit, path_resolution(7) */
	CACHED = 16,             /* open directories */
	LABEL = 256,
};

/* What headers say of a file beside its contents. records: extended header with attributes, NULL where it has none. */
struct attributes {
	uint32_t uid, gid;
	mode_t mode;
	struct timespec mtime;
	char *records;
	size_t records_size;
};

struct extent {
	uint64_t offset, size;
};

/* What an extended header may say of the entries after it. */
enum {
	GIVEN_SIZE = 1,
	GIVEN_UID = 2,
	GIVEN_GID = 4,
	GIVEN_MTIME = 8,
	GIVEN_GLOBALLY = GIVEN_SIZE | GIVEN_UID | GIVEN_GID | GIVEN_MTIME,
	GIVEN_PATH = 16,
	GIVEN_LINK = 32,
	GIVEN_XATTR = 64,
	GIVEN_REAL_SIZE = 128,
	GIVEN_MAP = 256,
	GIVEN_SPARSE_NAME = 512,
};

struct given {
	unsigned mask;
	uint64_t size, uid, gid, real_size, sparse_major, sparse_minor;
	struct timespec mtime;
};

/* A directory whose attributes are still to be set. Its path lies in unpacker.paths. */
struct late {
	size_t path;
	struct attributes attributes;
};

struct cached {
	int directory; /* -1: free */
	unsigned used;
	size_t length;
	char path[PATH_MAX];
};

struct unpacker {
	const struct rl_unpack_options *options;
	struct rl_unpack_result *result;
	int tar, root;
	bool no_openat2;
	bool whiteout_files_made;

	unsigned char *buffer;
	size_t at, end;

	struct given global, local;
	char *records; /* RECORDS_MAX + 1 bytes: the extended headers of the next entry */
	size_t records_size;
	char given_path[PATH_MAX], given_link[PATH_MAX];
	struct extent *extents;
	size_t extent_count, extent_capacity;
	bool extent_open; /* an offset has come, its size not yet (sparse format 0.0) */

	/* the entry at hand */
	char label[LABEL];
	size_t label_size;
	char path[PATH_MAX], link[PATH_MAX];
	char type;
	uint64_t size; /* of its data in the archive */
	struct attributes attributes;

	struct cached cache[CACHED];
	unsigned clock;
	bool stale; /* a directory or symlink was replaced: cached paths may be others' now */

	char *paths;
	size_t paths_size, paths_capacity;
	struct late *late;
	size_t late_count, late_capacity, late_records;
};

static int fail(struct unpacker *unpacker, enum rl_unpack_class class, int error, const char *what)
{
	struct rl_unpack_result *result = unpacker->result;

	result->class = class;
	result->error = error;
	rl_describe(result->text, sizeof result->text, unpacker->label, unpacker->label_size, what);
	return -1;
}

static int malformed(struct unpacker *unpacker, const char *what)
{
	return fail(unpacker, RL_UNPACK_MALFORMED, 0, what);
}

static int hostile(struct unpacker *unpacker, const char *what)
{
	return fail(unpacker, RL_UNPACK_HOSTILE, 0, what);
}

/* A system call has failed. */
static int refused(struct unpacker *unpacker, const char *what)
{
	return fail(unpacker, RL_UNPACK_HOST, errno, what);
}

static void name_label(struct unpacker *unpacker, const char *name, size_t size)
{
	unpacker->label_size = size < LABEL ? size : LABEL;
	memcpy(unpacker->label, name, unpacker->label_size);
}

static int close_keeping_errno(int descriptor)
{
	int saved = errno;

	close(descriptor);
	errno = saved;
	return -1;
}

/* Room for one more element of `size` bytes in an array that doubles, up to `limit` elements. */
static void *grown(void *array, size_t count, size_t *capacity, size_t size, size_t limit)
{
	if (count < *capacity)
		return array;
	size_t wanted = *capacity ? *capacity * 2 : 64;
	if (wanted > limit)
		wanted = limit;
	if (count >= wanted) {
		errno = ENOMEM;
		return NULL;
	}
	void *larger = realloc(array, wanted * size);
	if (larger)
		*capacity = wanted;
	return larger;
}

/* ---- the stream */

/* Have `size` bytes (at most BUFFER) in the buffer, contiguously. 1, or 0 where the stream ends before the first of them, or -1. */
static int need(struct unpacker *unpacker, size_t size)
{
	if (unpacker->end - unpacker->at >= size)
		return 1;
	memmove(unpacker->buffer, unpacker->buffer + unpacker->at, unpacker->end - unpacker->at);
	unpacker->end -= unpacker->at;
	unpacker->at = 0;
	while (unpacker->end < size) {
		ssize_t got = read(unpacker->tar, unpacker->buffer + unpacker->end, BUFFER - unpacker->end);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return refused(unpacker, "cannot read the archive");
		if (got == 0)
			return unpacker->end ? malformed(unpacker, "the archive is cut short") : 0;
		unpacker->end += (size_t)got;
	}
	return 1;
}

/* The next block, valid until the stream is next touched. As `need`. */
static int next_block(struct unpacker *unpacker, const unsigned char **block)
{
	int got = need(unpacker, RL_BLOCK);

	if (got > 0) {
		*block = unpacker->buffer + unpacker->at;
		unpacker->at += RL_BLOCK;
	}
	return got;
}

/* Have some bytes of what must follow; returns how many of `size` are in the buffer, or -1. */
static ssize_t some(struct unpacker *unpacker, uint64_t size)
{
	int got = need(unpacker, 1);

	if (got == 0)
		return malformed(unpacker, "the archive is cut short");
	if (got < 0)
		return -1;
	size_t there = unpacker->end - unpacker->at;
	return (ssize_t)(there < size ? there : size);
}

static int skip(struct unpacker *unpacker, uint64_t size)
{
	while (size) {
		ssize_t piece = some(unpacker, size);
		if (piece < 0)
			return -1;
		unpacker->at += (size_t)piece;
		size -= (size_t)piece;
	}
	return 0;
}

static int skip_padding(struct unpacker *unpacker, uint64_t size)
{
	return skip(unpacker, (RL_BLOCK - size % RL_BLOCK) % RL_BLOCK);
}

static int skip_data(struct unpacker *unpacker, uint64_t size)
{
	return skip(unpacker, size) < 0 ? -1 : skip_padding(unpacker, size);
}

static int take(struct unpacker *unpacker, char *target, size_t size)
{
	while (size) {
		ssize_t piece = some(unpacker, size);
		if (piece < 0)
			return -1;
		memcpy(target, unpacker->buffer + unpacker->at, (size_t)piece);
		unpacker->at += (size_t)piece;
		target += piece;
		size -= (size_t)piece;
	}
	return 0;
}

static int copy_to_file(struct unpacker *unpacker, int file, uint64_t size)
{
	while (size) {
		ssize_t piece = some(unpacker, size);
		if (piece < 0)
			return -1;
		ssize_t written = write(file, unpacker->buffer + unpacker->at, (size_t)piece);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return refused(unpacker, "cannot write");
		unpacker->at += (size_t)written;
		size -= (size_t)written;
		unpacker->result->bytes += (size_t)written;
	}
	return 0;
}

/* Read what follows the archive: whoever writes to our pipe must be able to finish. */
static int drain(struct unpacker *unpacker)
{
	for (;;) {
		ssize_t got = read(unpacker->tar, unpacker->buffer, BUFFER);
		if (got == 0)
			return 0;
		if (got < 0 && errno != EINTR)
			return refused(unpacker, "cannot read the archive");
	}
}

/* ---- numbers */

/* Decimal digits up to `end`, all of them; false where there is anything else or the number is beyond INT64_MAX. */
static bool decimal(const char *text, const char *end, uint64_t *number)
{
	uint64_t value = 0;

	if (text == end)
		return false;
	for (; text < end; text++) {
		const unsigned digit = (unsigned)(*text - '0');

		if (digit > 9 || value > ((uint64_t)INT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*number = value;
	return true;
}

/* A time in seconds, with sign and fraction: what is finer than a nanosecond is dropped. */
static bool decimal_time(const char *text, const char *end, struct timespec *time)
{
	const bool negative = text < end && *text == '-';
	const char *whole = text + negative, *point = memchr(whole, '.', (size_t)(end - whole));
	uint64_t seconds;
	long nanoseconds = 0, scale = 100000000;

	if (!decimal(whole, point ? point : end, &seconds))
		return false;
	for (const char *digit = point ? point + 1 : end; digit < end; digit++, scale /= 10) {
		if (*digit < '0' || *digit > '9')
			return false;
		nanoseconds += (*digit - '0') * scale;
	}
	time->tv_sec = negative ? -(int64_t)seconds : (int64_t)seconds;
	time->tv_nsec = nanoseconds;
	if (negative && nanoseconds) {
		time->tv_sec--;
		time->tv_nsec = 1000000000 - nanoseconds;
	}
	return true;
}

/* A numeric field of a header: octal digits amid spaces and NULs, or, with the highest bit set, a big-endian number in two's complement (GNU). */
static bool field(const char *text, size_t size, int64_t *number)
{
	const unsigned char *bytes = (const unsigned char *)text;
	uint64_t value = 0;
	size_t i = 0;

	if (bytes[0] & 0x80) {
		const bool negative = bytes[0] & 0x40;
		const unsigned char fill = negative ? 0xff : 0;

		for (; i < size; i++) {
			unsigned char byte = i ? bytes[i] : (unsigned char)((bytes[0] & 0x7f) | (negative ? 0x80 : 0));
			if (i + 8 < size && byte != fill)
				return false;
			value = value << 8 | byte;
		}
		if (size >= 8 && (value >> 63) != negative)
			return false;
		if (size < 8 && negative)
			value |= ~(uint64_t)0 << (8 * size);
		*number = (int64_t)value;
		return true;
	}
	while (i < size && (text[i] == ' ' || !text[i]))
		i++;
	for (; i < size && text[i] != ' ' && text[i]; i++) {
		if (text[i] < '0' || text[i] > '7')
			return false;
		value = value << 3 | (uint64_t)(text[i] - '0');
	}
	*number = (int64_t)value; /* 12 digits are 36 bits */
	return true;
}

/* ---- names */

/* Bring a name of the archive into its one form: no slash at either end, no empty component, no `.`; the root is "". */
static int canonical(struct unpacker *unpacker, const char *name, size_t size, char result[PATH_MAX])
{
	const char *end = name + size;
	size_t used = 0;

	if (size == 0)
		return malformed(unpacker, "an entry has no name");
	if (memchr(name, 0, size))
		return hostile(unpacker, "the name has a NUL byte");
	while (name < end) {
		const char *slash = memchr(name, '/', (size_t)(end - name));
		size_t length = (size_t)((slash ? slash : end) - name);

		if (length == 2 && name[0] == '.' && name[1] == '.')
			return hostile(unpacker, "the name has the component `..`");
		if (length > NAME_MAX || used + length + 2 > PATH_MAX)
			return malformed(unpacker, "the name is too long");
		if (length > 1 || (length == 1 && name[0] != '.')) {
			if (used)
				result[used++] = '/';
			memcpy(result + used, name, length);
			used += length;
		}
		name += length + 1;
	}
	result[used] = 0;
	return 0;
}

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

enum kind { KIND_FILE, KIND_WHITEOUT, KIND_OPAQUE, KIND_METADATA };

/* What the name of an entry makes of it; -1 where no layer may have it. */
static int kind_of(struct unpacker *unpacker, const char *path)
{
	const char *base = last_component(path);

	for (const char *component = path; component < base; component = strchr(component, '/') + 1) {
		if (rl_starts(component, RL_WHITEOUT_META))
			return KIND_METADATA;
		if (rl_starts(component, RL_WHITEOUT))
			return malformed(unpacker, "lies beneath a whiteout");
	}
	if (strcmp(base, RL_WHITEOUT_OPAQUE) == 0)
		return KIND_OPAQUE;
	if (rl_starts(base, RL_WHITEOUT_META))
		return KIND_METADATA;
	if (!rl_starts(base, RL_WHITEOUT))
		return KIND_FILE;
	const char *hidden = base + strlen(RL_WHITEOUT);
	if (!*hidden || strcmp(hidden, ".") == 0 || strcmp(hidden, "..") == 0)
		return hostile(unpacker, "is a whiteout of no name");
	return KIND_WHITEOUT;
}

/* ---- extended headers */

static int add_extent(struct unpacker *unpacker, uint64_t offset, uint64_t size)
{
	void *larger = grown(unpacker->extents, unpacker->extent_count, &unpacker->extent_capacity, sizeof *unpacker->extents, EXTENTS_MAX);

	if (!larger)
		return unpacker->extent_count == EXTENTS_MAX ? hostile(unpacker, "the map of a sparse file is too long") : refused(unpacker, "cannot unpack");
	unpacker->extents = larger;
	unpacker->extents[unpacker->extent_count++] = (struct extent){ offset, size };
	return 0;
}

/* Sparse format 0.1: all offsets and sizes in one list of numbers. */
static int read_map(struct unpacker *unpacker, const char *text, const char *end)
{
	uint64_t number[2];

	unpacker->extent_count = 0;
	for (size_t i = 0; text < end; i++) {
		const char *comma = memchr(text, ',', (size_t)(end - text));
		const char *stop = comma ? comma : end;

		if (!decimal(text, stop, &number[i % 2]) || (!comma && i % 2 == 0))
			return malformed(unpacker, "the map of a sparse file is damaged");
		if (i % 2 && add_extent(unpacker, number[0], number[1]) < 0)
			return -1;
		text = stop + 1;
	}
	return 0;
}

static int keep_text(struct unpacker *unpacker, char target[PATH_MAX], const char *text, size_t size)
{
	if (memchr(text, 0, size))
		return hostile(unpacker, "a name in an extended header has a NUL byte");
	if (size >= PATH_MAX)
		return malformed(unpacker, "a name in an extended header is too long");
	memcpy(target, text, size);
	target[size] = 0;
	return 0;
}

/* Take one record. An empty value takes back what a global header has said (pax(1)). */
static int read_record(struct unpacker *unpacker, struct given *given, const char *key, const char *value, const char *end)
{
	static const struct {
		const char *key;
		unsigned mask;
		size_t offset;
	} numbers[] = {
		{ "size", GIVEN_SIZE, offsetof(struct given, size) },
		{ "uid", GIVEN_UID, offsetof(struct given, uid) },
		{ "gid", GIVEN_GID, offsetof(struct given, gid) },
		{ "GNU.sparse.realsize", GIVEN_REAL_SIZE, offsetof(struct given, real_size) },
		{ "GNU.sparse.size", GIVEN_REAL_SIZE, offsetof(struct given, real_size) },
		{ "GNU.sparse.major", 0, offsetof(struct given, sparse_major) },
		{ "GNU.sparse.minor", 0, offsetof(struct given, sparse_minor) },
	};
	const size_t size = (size_t)(end - value);
	uint64_t number;

	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		if (strcmp(key, numbers[i].key) != 0)
			continue;
		if (given == &unpacker->global && !(numbers[i].mask & GIVEN_GLOBALLY))
			return 0;
		given->mask &= ~numbers[i].mask;
		if (size == 0)
			return 0;
		if (!decimal(value, end, (uint64_t *)((char *)given + numbers[i].offset)))
			return malformed(unpacker, "a number in an extended header is damaged");
		given->mask |= numbers[i].mask;
		return 0;
	}
	if (strcmp(key, "mtime") == 0) {
		given->mask &= ~(unsigned)GIVEN_MTIME;
		if (size && !decimal_time(value, end, &given->mtime))
			return malformed(unpacker, "a time in an extended header is damaged");
		given->mask |= size ? GIVEN_MTIME : 0;
		return 0;
	}
	if (given == &unpacker->global)
		return 0; /* names and attributes are of one file */
	if (strcmp(key, "GNU.sparse.name") == 0) { /* `path` is then a name for those who do not know sparse files */
		given->mask |= GIVEN_PATH | GIVEN_SPARSE_NAME;
		return keep_text(unpacker, unpacker->given_path, value, size);
	}
	if (strcmp(key, "path") == 0 && !(given->mask & GIVEN_SPARSE_NAME)) {
		given->mask = size ? given->mask | GIVEN_PATH : given->mask & ~(unsigned)GIVEN_PATH;
		return keep_text(unpacker, unpacker->given_path, value, size);
	}
	if (strcmp(key, "linkpath") == 0) {
		given->mask = size ? given->mask | GIVEN_LINK : given->mask & ~(unsigned)GIVEN_LINK;
		return keep_text(unpacker, unpacker->given_link, value, size);
	}
	if (strcmp(key, "GNU.sparse.map") == 0) {
		given->mask |= GIVEN_MAP;
		return read_map(unpacker, value, end);
	}
	if (strcmp(key, "GNU.sparse.offset") == 0 || strcmp(key, "GNU.sparse.numbytes") == 0) {
		const bool offset = strcmp(key, "GNU.sparse.offset") == 0;

		if (!decimal(value, end, &number) || offset == unpacker->extent_open)
			return malformed(unpacker, "the map of a sparse file is damaged");
		unpacker->extent_open = offset;
		given->mask |= GIVEN_MAP;
		if (offset)
			return add_extent(unpacker, number, 0);
		unpacker->extents[unpacker->extent_count - 1].size = number;
		return 0;
	}
	if (rl_starts(key, RL_XATTR_PAX) || rl_starts(key, "LIBARCHIVE.xattr."))
		given->mask |= GIVEN_XATTR;
	return 0;
}

/* One `LENGTH KEY=VALUE\n` (pax(1)) at *at; its `=` becomes a NUL. Moves *at behind it. False where there is none. */
static bool split_record(char **at, char *end, char **key, char **value, char **value_end)
{
	char *space = memchr(*at, ' ', (size_t)(end - *at));
	uint64_t length;

	if (!space || !decimal(*at, space, &length) || length > (uint64_t)(end - *at) || length < (uint64_t)(space - *at) + 2)
		return false;
	*value_end = *at + length - 1;
	*key = space + 1;
	if (**value_end != '\n')
		return false;
	*at += length;
	char *equals = memchr(*key, '=', (size_t)(*value_end - *key));
	if (!equals || equals == *key || memchr(*key, 0, (size_t)(equals - *key)))
		return false;
	*equals = 0;
	*value = equals + 1;
	return true;
}

/* Read the data of a header that speaks of others, behind the records kept so far. NULL where it is too long or the archive ends. */
static char *read_extension(struct unpacker *unpacker, uint64_t size)
{
	if (size > RECORDS_MAX - unpacker->records_size) {
		hostile(unpacker, "an extended header is larger than a mebibyte");
		return NULL;
	}
	char *data = unpacker->records + unpacker->records_size;
	if (take(unpacker, data, size) < 0 || skip_padding(unpacker, size) < 0)
		return NULL;
	data[size] = 0;
	return data;
}

static int read_records(struct unpacker *unpacker, uint64_t size, struct given *given)
{
	char *at = read_extension(unpacker, size);
	char *key, *value, *value_end;

	if (!at)
		return -1;
	char *end = at + size;
	while (at < end) {
		if (!split_record(&at, end, &key, &value, &value_end))
			return malformed(unpacker, "an extended header is damaged");
		if (read_record(unpacker, given, key, value, value_end) < 0)
			return -1;
		value[-1] = '='; /* set_xattrs reads them once more */
	}
	if (given == &unpacker->local)
		unpacker->records_size += size;
	return 0;
}

/* A GNU long name or long link: the text, up to its NUL. */
static int read_long_text(struct unpacker *unpacker, uint64_t size, unsigned mask, char target[PATH_MAX])
{
	const char *text = read_extension(unpacker, size);

	if (!text)
		return -1;
	unpacker->local.mask |= mask;
	return keep_text(unpacker, target, text, strnlen(text, size));
}

static void forget_extensions(struct unpacker *unpacker)
{
	unpacker->local = unpacker->global;
	unpacker->records_size = 0;
	unpacker->extent_count = 0;
	unpacker->extent_open = false;
}

/* ---- directories, beneath the root */

static bool is_whiteout(const struct stat *status)
{
	return S_ISCHR(status->st_mode) && status->st_rdev == 0;
}

static void forget_directories(struct unpacker *unpacker)
{
	for (size_t i = 0; i < CACHED; i++) {
		if (unpacker->cache[i].directory >= 0)
			close(unpacker->cache[i].directory);
		unpacker->cache[i].directory = -1;
		unpacker->cache[i].used = 0;
	}
	unpacker->stale = false;
}

/* Make an empty file; that it is there already is well. */
static int make_marker(int directory, const char *name)
{
	int file = openat(directory, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (file >= 0)
		close(file);
	return file < 0 ? -1 : 0;
}

/* Have the directory `name` hide what lower layers have in it. */
static int mark_opaque(struct unpacker *unpacker, int parent, const char *name)
{
	int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (directory < 0)
		return refused(unpacker, "cannot open the directory");
	int result = unpacker->options->whiteout_files ? make_marker(directory, RL_WHITEOUT_OPAQUE) : fsetxattr(directory, RL_XATTR_OPAQUE, "y", 1, 0);
	if (result < 0)
		refused(unpacker, "cannot mark the directory as opaque");
	close(directory);
	return result;
}

/* The name of the whiteout of `name` as a file; NULL where it would be too long for a file system, and so cannot be there. */
static const char *whiteout_name(char buffer[NAME_MAX + 1], const char *name)
{
	const size_t length = strlen(name);

	if (length > NAME_MAX - strlen(RL_WHITEOUT))
		return NULL;
	memcpy(buffer, RL_WHITEOUT, strlen(RL_WHITEOUT));
	memcpy(buffer + strlen(RL_WHITEOUT), name, length + 1);
	return buffer;
}

/* Remove the file that is the whiteout of `name`, as `name` itself comes; whether there was one. */
static bool drop_whiteout_file(const struct unpacker *unpacker, int parent, const char *name)
{
	char buffer[NAME_MAX + 1];
	const char *file = unpacker->whiteout_files_made ? whiteout_name(buffer, name) : NULL;

	return file && unlinkat(parent, file, 0) == 0;
}

/* Remove what has the name of an entry that comes. */
static int clear_way(struct unpacker *unpacker, int parent, const char *name)
{
	struct rl_tree_failure failure;
	struct stat status;

	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && (S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode)))
		unpacker->stale = true;
	if (rl_remove_tree(parent, name, &failure) == 0)
		return 0;
	errno = failure.error;
	return refused(unpacker, "cannot be replaced");
}

/* Have a directory of this name, here or in a lower layer's stead. What else has the name is replaced where `replace` allows, whiteouts always. */
static int make_directory(struct unpacker *unpacker, int parent, const char *name, bool replace)
{
	struct stat status;
	bool hides = drop_whiteout_file(unpacker, parent, name);

	int made = mkdirat(parent, name, 0755);
	if (made < 0 && errno == EEXIST) {
		if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
			return refused(unpacker, "cannot make the directory");
		if (!S_ISDIR(status.st_mode)) {
			if (!replace && !is_whiteout(&status))
				return malformed(unpacker, "lies beneath something that is not a directory");
			if (clear_way(unpacker, parent, name) < 0)
				return -1;
			hides = true; /* what was here hid what is below; the directory must not let it through */
			made = mkdirat(parent, name, 0755);
		} else {
			made = 0;
		}
	}
	if (made < 0)
		return refused(unpacker, "cannot make the directory");
	return hides ? mark_opaque(unpacker, parent, name) : 0;
}

/* Step from a directory to its entry `name`, making it where it is missing and `make` is set.
 * A descriptor of a directory; or, with *target set to its length, -1 for a symlink whose content is in `text`; or -1 and errno; or -2 where a failure has been told. */
static int step(struct unpacker *unpacker, int from, const char *name, bool make, char text[PATH_MAX], ssize_t *target)
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
		if (to >= 0 && (!make || !is_whiteout(&status))) {
			errno = ENOTDIR;
			return -1;
		}
		if (make_directory(unpacker, from, name, false) < 0)
			return -2;
	}
}

/* Open a directory of the root as a process confined to it would, a component at a time; with `make`, make what is missing. As `step`, without symlinks. */
static int walk(struct unpacker *unpacker, const char *path, bool make)
{
	char rest[PATH_MAX], text[PATH_MAX], name[NAME_MAX + 1];
	unsigned depth = 0, symlinks = 0;
	size_t length = strlen(path), at = 0;

	memcpy(rest, path, length + 1); /* a canonical path is shorter than PATH_MAX */
	int directory = fcntl(unpacker->root, F_DUPFD_CLOEXEC, 0);
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
			next = step(unpacker, directory, name, make, text, &target);
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
			next = fcntl(unpacker->root, F_DUPFD_CLOEXEC, 0);
		}
		close_keeping_errno(directory);
		directory = next;
	}
	return directory;
}

static int open_beneath(struct unpacker *unpacker, const char *path, bool make)
{
	struct rl_open_how how = {
		.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
		.resolve = RL_RESOLVE_IN_ROOT | RL_RESOLVE_NO_MAGICLINKS,
	};

	if (!unpacker->no_openat2) {
		int directory = rl_openat2(unpacker->root, *path ? path : ".", &how);
		if (directory >= 0)
			return directory;
		unpacker->no_openat2 = errno == ENOSYS || errno == EPERM; /* EPERM: a seccomp filter that does not know it */
		if (!unpacker->no_openat2 && errno != EAGAIN && !(make && (errno == ENOENT || errno == ENOTDIR)))
			return -1;
	}
	return walk(unpacker, path, make);
}

/* A descriptor (O_PATH, the cache's) of the directory that a canonical path lies in; its last component goes to *name.
 * Valid until the next but one call. -1 and errno, or -2 where a failure has been told. */
static int open_parent(struct unpacker *unpacker, const char *path, bool make, const char **name)
{
	struct cached *oldest = unpacker->cache;
	char parent[PATH_MAX];

	if (unpacker->stale)
		forget_directories(unpacker);
	*name = last_component(path);
	const size_t length = *name > path ? (size_t)(*name - path) - 1 : 0;
	for (size_t i = 0; i < CACHED; i++) {
		struct cached *cached = &unpacker->cache[i];

		if (cached->directory >= 0 && cached->length == length && memcmp(cached->path, path, length) == 0) {
			cached->used = ++unpacker->clock;
			return cached->directory;
		}
		if (cached->used < oldest->used)
			oldest = cached;
	}
	memcpy(parent, path, length);
	parent[length] = 0;
	int directory = open_beneath(unpacker, parent, make);
	if (directory < 0)
		return directory;
	if (oldest->directory >= 0)
		close(oldest->directory);
	memcpy(oldest->path, parent, length);
	oldest->length = length;
	oldest->directory = directory;
	oldest->used = ++unpacker->clock;
	return directory;
}

/* The parent of the entry at hand, made where it is missing. -1 where a failure has been told. */
static int parent_of(struct unpacker *unpacker, const char *path, const char **name)
{
	int parent = open_parent(unpacker, path, true, name);

	if (parent >= 0)
		return parent;
	if (parent == -2)
		return -1;
	if (errno == ELOOP || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ENOENT)
		return malformed(unpacker, errno == ELOOP ? "lies beneath a loop of symlinks" : "lies beneath something that is not a directory");
	return refused(unpacker, "cannot open the directory it lies in");
}

/* ---- attributes */

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

/* chown(2) was refused with EINVAL: the id map does not hold the owner. */
static int outside_map(struct unpacker *unpacker, uint32_t uid, uint32_t gid)
{
	char what[128], *at = append(what, "its owner ");

	at = append_number(at, uid);
	at = append(at, ":");
	at = append_number(at, gid);
	at = append(at, " is outside the id map, which would need ");
	at = append_number(at, (uint64_t)(uid > gid ? uid : gid) + 1);
	append(at, " ids");
	return fail(unpacker, RL_UNPACK_HOST, EINVAL, what);
}

static int chown_failed(struct unpacker *unpacker, const struct attributes *attributes)
{
	if (errno == EINVAL)
		return outside_map(unpacker, attributes->uid, attributes->gid);
	return refused(unpacker, "cannot set the owner");
}

/* Write the true owner to an attribute. */
static int record_owner(struct unpacker *unpacker, int file, const struct attributes *attributes)
{
	char owner[24], *at = append_number(owner, attributes->uid);

	*at++ = ':';
	at = append_number(at, attributes->gid);
	if (fsetxattr(file, RL_XATTR_OWNER, owner, (size_t)(at - owner), 0) == 0)
		return 0;
	if (errno != ENOTSUP)
		return refused(unpacker, "cannot record the owner in an attribute");
	unpacker->result->skipped_xattrs++;
	return 0;
}

/* Decode base64 in place (RFC 4648; padding may be missing). The size, or -1. */
static ssize_t decode_base64(char *text, size_t size)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned bits = 0, held = 0;
	char *out = text;

	while (size && text[size - 1] == '=')
		size--;
	for (size_t i = 0; i < size; i++) {
		const char *letter = memchr(alphabet, text[i], sizeof alphabet - 1);
		if (!letter)
			return -1;
		bits = bits << 6 | (unsigned)(letter - alphabet);
		held += 6;
		if (held >= 8) {
			held -= 8;
			*out++ = (char)(bits >> held & 0xff);
		}
	}
	return out - text;
}

/* Decode %XX in place. */
static void decode_percent(char *text)
{
	static const char digits[] = "0123456789ABCDEF0123456789abcdef";
	char *out = text;

	for (; *text; text++) {
		const char *high = *text == '%' && text[1] ? strchr(digits, text[1]) : NULL;
		const char *low = high && text[2] ? strchr(digits, text[2]) : NULL;
		if (low) {
			*out++ = (char)((high - digits) % 16 << 4 | (low - digits) % 16);
			text += 2;
		} else {
			*out++ = *text;
		}
	}
	*out = 0;
}

static int set_xattr(struct unpacker *unpacker, int file, const char *name, const char *value, size_t size)
{
	const bool capability = strcmp(name, "security.capability") == 0;

	if (rl_xattr_is_ours(name))
		return 0;
	if (file >= 0 && fsetxattr(file, name, value, size, 0) == 0)
		return 0;
	if (file >= 0 && (errno == EINVAL || errno == ERANGE))
		return malformed(unpacker, capability ? "its file capabilities are damaged" : "has an impossible attribute");
	if (file >= 0 && errno != ENOTSUP && (errno != EPERM || capability))
		return refused(unpacker, capability ? "cannot set the file capabilities" : "cannot set an attribute");
	unpacker->result->skipped_xattrs++;
	return 0;
}

/* Set what the kept records hold. file: -1 where the type of file can have none. The records are changed. */
static int set_xattrs(struct unpacker *unpacker, int file, const struct attributes *attributes)
{
	char *at = attributes->records, *end = at + attributes->records_size;
	char *key, *value, *value_end;
	ssize_t size;

	while (at < end && split_record(&at, end, &key, &value, &value_end)) {
		if (rl_starts(key, RL_XATTR_PAX)) {
			key += strlen(RL_XATTR_PAX);
			size = value_end - value;
		} else if (rl_starts(key, "LIBARCHIVE.xattr.")) {
			key += strlen("LIBARCHIVE.xattr.");
			decode_percent(key);
			size = decode_base64(value, (size_t)(value_end - value));
		} else {
			continue;
		}
		if (size < 0 || !*key)
			return malformed(unpacker, "has a damaged attribute");
		if (set_xattr(unpacker, file, key, value, (size_t)size) < 0)
			return -1;
	}
	return 0;
}

/* Set all attributes of a regular file or directory that is complete. A file was made with its permission bits. */
static int set_attributes(struct unpacker *unpacker, int file, const struct attributes *attributes, bool directory)
{
	const struct timespec times[2] = { attributes->mtime, attributes->mtime };
	const bool foreign = attributes->uid || attributes->gid;

	if (unpacker->options->single_id && foreign) {
		if (record_owner(unpacker, file, attributes) < 0)
			return -1;
	} else if ((foreign || directory) && fchown(file, attributes->uid, attributes->gid) < 0) {
		return chown_failed(unpacker, attributes);
	}
	/* chown(2) takes file capabilities and set-id bits away: only now. */
	if (attributes->records && set_xattrs(unpacker, file, attributes) < 0)
		return -1;
	if ((directory || attributes->mode & 07000) && fchmod(file, attributes->mode) < 0)
		return refused(unpacker, "cannot set the mode");
	if (futimens(file, times) < 0)
		return refused(unpacker, "cannot set the times");
	return 0;
}

/* As set_attributes, of what is not opened: a symlink or a fifo. */
static int set_attributes_at(struct unpacker *unpacker, int parent, const char *name)
{
	const struct attributes *attributes = &unpacker->attributes;
	const struct timespec times[2] = { attributes->mtime, attributes->mtime };

	if ((attributes->uid || attributes->gid) && !unpacker->options->single_id &&
	    fchownat(parent, name, attributes->uid, attributes->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return chown_failed(unpacker, attributes);
	if (attributes->records && set_xattrs(unpacker, -1, attributes) < 0)
		return -1;
	if (utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return refused(unpacker, "cannot set the times");
	return 0;
}

/* Remember the attributes of the directory at hand until the end. */
static int postpone(struct unpacker *unpacker)
{
	const size_t length = strlen(unpacker->path) + 1;
	struct attributes attributes = unpacker->attributes;

	if (unpacker->paths_size + unpacker->late_records + (unpacker->late_count + 1) * sizeof *unpacker->late + length + attributes.records_size > LATE_MAX)
		return hostile(unpacker, "the archive has too many directories");
	void *larger = grown(unpacker->late, unpacker->late_count, &unpacker->late_capacity, sizeof *unpacker->late, LATE_MAX / sizeof *unpacker->late);
	if (!larger)
		return refused(unpacker, "cannot unpack");
	unpacker->late = larger;
	while (unpacker->paths_capacity - unpacker->paths_size < length) {
		larger = grown(unpacker->paths, unpacker->paths_capacity, &unpacker->paths_capacity, 1, LATE_MAX);
		if (!larger)
			return refused(unpacker, "cannot unpack");
		unpacker->paths = larger;
	}
	if (attributes.records) {
		char *copy = malloc(attributes.records_size);
		if (!copy)
			return refused(unpacker, "cannot unpack");
		memcpy(copy, attributes.records, attributes.records_size);
		attributes.records = copy;
		unpacker->late_records += attributes.records_size;
	}
	memcpy(unpacker->paths + unpacker->paths_size, unpacker->path, length);
	unpacker->late[unpacker->late_count++] = (struct late){ unpacker->paths_size, attributes };
	unpacker->paths_size += length;
	return 0;
}

/* Set the attributes of all directories. One that is no more was replaced by a later entry. */
static int set_late_attributes(struct unpacker *unpacker)
{
	for (size_t i = 0; i < unpacker->late_count; i++) {
		const struct late *late = &unpacker->late[i];
		const char *path = unpacker->paths + late->path, *name;

		name_label(unpacker, path, strlen(path));
		int parent = open_parent(unpacker, path, false, &name);
		int directory = parent < 0 ? -1 : openat(parent, *name ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (directory < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
			continue;
		if (directory < 0)
			return refused(unpacker, "cannot open the directory");
		int result = set_attributes(unpacker, directory, &late->attributes, true);
		close(directory);
		if (result < 0)
			return -1;
	}
	return 0;
}

/* ---- entries */

static int unpack_directory(struct unpacker *unpacker)
{
	const char *name;

	if (*unpacker->path) {
		int parent = parent_of(unpacker, unpacker->path, &name);
		if (parent < 0 || make_directory(unpacker, parent, name, true) < 0)
			return -1;
	}
	return postpone(unpacker);
}

/* Numbers of a sparse map that stand, a line each, before a file's data (format 1.0). used: bytes read so far. */
static int read_map_line(struct unpacker *unpacker, uint64_t *used, uint64_t *number)
{
	char line[24];
	size_t length = 0;

	for (;;) {
		if (*used == unpacker->size || length == sizeof line)
			return malformed(unpacker, "the map of a sparse file is damaged");
		if (some(unpacker, 1) < 0)
			return -1;
		line[length] = (char)unpacker->buffer[unpacker->at++];
		++*used;
		if (line[length++] == '\n')
			break;
	}
	return decimal(line, line + length - 1, number) ? 0 : malformed(unpacker, "the map of a sparse file is damaged");
}

static int read_map_before_data(struct unpacker *unpacker)
{
	uint64_t used = 0, count, offset, size;

	unpacker->extent_count = 0;
	if (read_map_line(unpacker, &used, &count) < 0)
		return -1;
	while (count--)
		if (read_map_line(unpacker, &used, &offset) < 0 || read_map_line(unpacker, &used, &size) < 0 || add_extent(unpacker, offset, size) < 0)
			return -1;
	const uint64_t padded = (used + RL_BLOCK - 1) / RL_BLOCK * RL_BLOCK;
	if (padded > unpacker->size)
		return malformed(unpacker, "the map of a sparse file is damaged");
	unpacker->size -= padded;
	return skip_padding(unpacker, used);
}

/* The map of an old GNU sparse file: four pieces in its header, 21 in each block that follows. */
static int read_old_map(struct unpacker *unpacker, const unsigned char *header)
{
	enum { PIECE = 24, IN_HEADER = 4, IN_BLOCK = 21, AT = 386, MORE = 482, REAL_SIZE = 483, MORE_IN_BLOCK = 504 };
	const char *pieces = (const char *)header + AT;
	size_t count = IN_HEADER;
	bool more = header[MORE];
	int64_t offset, size;

	if (!field((const char *)header + REAL_SIZE, 12, &size) || size < 0)
		return malformed(unpacker, "the size of a sparse file is damaged");
	unpacker->local.real_size = (uint64_t)size;
	unpacker->local.mask |= GIVEN_REAL_SIZE | GIVEN_MAP;
	unpacker->extent_count = 0;
	for (;;) {
		for (size_t i = 0; i < count && pieces[i * PIECE]; i++) {
			if (!field(pieces + i * PIECE, 12, &offset) || !field(pieces + i * PIECE + 12, 12, &size) || offset < 0 || size < 0)
				return malformed(unpacker, "the map of a sparse file is damaged");
			if (add_extent(unpacker, (uint64_t)offset, (uint64_t)size) < 0)
				return -1;
		}
		if (!more)
			return 0;
		const unsigned char *block;
		int got = next_block(unpacker, &block);
		if (got <= 0)
			return got < 0 ? -1 : malformed(unpacker, "the archive is cut short");
		pieces = (const char *)block;
		count = IN_BLOCK;
		more = block[MORE_IN_BLOCK];
	}
}

/* Check that the map is in order, within the file, and of as much data as there is. */
static int check_map(struct unpacker *unpacker)
{
	uint64_t reached = 0, stored = 0;

	if (unpacker->extent_open || !(unpacker->local.mask & GIVEN_REAL_SIZE))
		return malformed(unpacker, "the map of a sparse file is damaged");
	for (size_t i = 0; i < unpacker->extent_count; i++) {
		const struct extent *extent = &unpacker->extents[i];

		/* both are at most INT64_MAX: their sum fits */
		if (extent->offset < reached || extent->offset + extent->size > unpacker->local.real_size)
			return malformed(unpacker, "the map of a sparse file does not fit the file");
		reached = extent->offset + extent->size;
		stored += extent->size;
	}
	return stored == unpacker->size ? 0 : malformed(unpacker, "the map of a sparse file does not fit its data");
}

static int copy_sparse(struct unpacker *unpacker, int file)
{
	for (size_t i = 0; i < unpacker->extent_count; i++) {
		if (lseek(file, (off_t)unpacker->extents[i].offset, SEEK_SET) < 0)
			return refused(unpacker, "cannot write");
		if (copy_to_file(unpacker, file, unpacker->extents[i].size) < 0)
			return -1;
	}
	return ftruncate(file, (off_t)unpacker->local.real_size) < 0 ? refused(unpacker, "cannot set the size") : 0;
}

static int unpack_file(struct unpacker *unpacker, const unsigned char *old_map)
{
	const char *name;
	int file;

	if (old_map && read_old_map(unpacker, old_map) < 0)
		return -1;
	if (unpacker->local.sparse_major == 1 && unpacker->local.sparse_minor == 0) {
		unpacker->local.mask |= GIVEN_MAP;
		if (read_map_before_data(unpacker) < 0)
			return -1;
	}
	const bool sparse = unpacker->local.mask & GIVEN_MAP;
	if (sparse && check_map(unpacker) < 0)
		return -1;
	int parent = parent_of(unpacker, unpacker->path, &name);
	if (parent < 0)
		return -1;
	(void)drop_whiteout_file(unpacker, parent, name);
	for (bool cleared = false;; cleared = true) {
		file = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, unpacker->attributes.mode & 0777);
		if (file >= 0)
			break;
		if (errno != EEXIST || cleared)
			return refused(unpacker, "cannot make the file");
		if (clear_way(unpacker, parent, name) < 0)
			return -1;
	}
	int result = sparse ? copy_sparse(unpacker, file) : copy_to_file(unpacker, file, unpacker->size);
	if (result == 0)
		result = set_attributes(unpacker, file, &unpacker->attributes, false);
	if (close(file) < 0 && result == 0) /* where a network file system says that there is no room */
		result = refused(unpacker, "cannot write");
	return result < 0 ? -1 : skip_padding(unpacker, unpacker->size);
}

static int unpack_special(struct unpacker *unpacker)
{
	const bool symlink = unpacker->type == '2';
	const char *name;

	int parent = parent_of(unpacker, unpacker->path, &name);
	if (parent < 0)
		return -1;
	(void)drop_whiteout_file(unpacker, parent, name);
	for (bool cleared = false;; cleared = true) {
		int made = symlink ? symlinkat(unpacker->link, parent, name) : mknodat(parent, name, S_IFIFO | (unpacker->attributes.mode & 0777), 0);
		if (made == 0)
			return set_attributes_at(unpacker, parent, name);
		if (errno != EEXIST || cleared)
			return refused(unpacker, symlink ? "cannot make the symlink" : "cannot make the fifo");
		if (clear_way(unpacker, parent, name) < 0)
			return -1;
	}
}

static int unpack_hard_link(struct unpacker *unpacker)
{
	const char *name, *target_name;
	struct stat target, there;

	int target_parent = open_parent(unpacker, unpacker->link, false, &target_name);
	if (target_parent < 0 || fstatat(target_parent, target_name, &target, AT_SYMLINK_NOFOLLOW) < 0) {
		if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
			return malformed(unpacker, "the file that it is a link to is not in the layer");
		return refused(unpacker, "cannot find the file that it is a link to");
	}
	if (is_whiteout(&target))
		return malformed(unpacker, "the file that it is a link to is not in the layer");
	if (S_ISDIR(target.st_mode))
		return malformed(unpacker, "is a hard link to a directory");
	int parent = parent_of(unpacker, unpacker->path, &name);
	if (parent < 0)
		return -1;
	(void)drop_whiteout_file(unpacker, parent, name);
	for (bool cleared = false;; cleared = true) {
		if (linkat(target_parent, target_name, parent, name, 0) == 0)
			return 0;
		if (errno == ENOENT)
			return malformed(unpacker, "the file that it is a link to is not in the layer");
		if (errno != EEXIST || cleared)
			return refused(unpacker, "cannot make the hard link");
		if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && there.st_dev == target.st_dev && there.st_ino == target.st_ino)
			return 0;
		if (clear_way(unpacker, parent, name) < 0)
			return -1;
	}
}

static int unpack_whiteout(struct unpacker *unpacker)
{
	const char *whiteout, *name;
	struct stat status;

	int parent = parent_of(unpacker, unpacker->path, &whiteout);
	if (parent < 0)
		return -1;
	name = whiteout + strlen(RL_WHITEOUT);
	if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISDIR(status.st_mode) ? mark_opaque(unpacker, parent, name) : 0;
	if (errno != ENOENT)
		return refused(unpacker, "cannot make the whiteout");
	if (unpacker->options->whiteout_files) {
		unpacker->whiteout_files_made = true;
		return make_marker(parent, whiteout) < 0 ? refused(unpacker, "cannot make the whiteout") : 0;
	}
	return mknodat(parent, name, S_IFCHR, 0) < 0 ? refused(unpacker, "cannot make the whiteout, a device node 0:0") : 0;
}

static int unpack_opaque(struct unpacker *unpacker)
{
	const char *name;

	int directory = parent_of(unpacker, unpacker->path, &name);
	if (directory < 0)
		return -1;
	if (name == unpacker->path)
		unpacker->result->opaque_root = true;
	return mark_opaque(unpacker, directory, ".");
}

/* ---- the loop */

/* The owner, mode and time of the entry at hand; of each, what an extended header says goes before the header. */
static int read_attributes(struct unpacker *unpacker, const struct rl_tar_header *header)
{
	const struct given *given = &unpacker->local;
	int64_t mode, uid, gid, mtime;

	if (!field(header->mode, sizeof header->mode, &mode) || !field(header->uid, sizeof header->uid, &uid) ||
	    !field(header->gid, sizeof header->gid, &gid) || !field(header->mtime, sizeof header->mtime, &mtime))
		return malformed(unpacker, "a number in the header is damaged");
	if (given->mask & GIVEN_UID)
		uid = (int64_t)given->uid;
	if (given->mask & GIVEN_GID)
		gid = (int64_t)given->gid;
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX) /* the highest is chown(2)'s "as it is" */
		return malformed(unpacker, "its owner is out of range");
	const bool has_records = given->mask & GIVEN_XATTR;
	unpacker->attributes = (struct attributes){
		.uid = (uint32_t)uid,
		.gid = (uint32_t)gid,
		.mode = (mode_t)mode & 07777,
		.mtime = given->mask & GIVEN_MTIME ? given->mtime : (struct timespec){ .tv_sec = mtime },
		.records = has_records ? unpacker->records : NULL,
		.records_size = has_records ? unpacker->records_size : 0,
	};
	return 0;
}

/* The name of the entry at hand: of an extended header, or of the header, whose `prefix` is one in POSIX's format only (and shorter in star's). */
static int read_name(struct unpacker *unpacker, const struct rl_tar_header *header)
{
	char joined[sizeof header->prefix + 1 + sizeof header->name];
	const char *name = joined;
	size_t size = 0;

	if (unpacker->local.mask & GIVEN_PATH) {
		name = unpacker->given_path;
		size = strlen(name);
	} else {
		if (memcmp(header->magic, "ustar", sizeof header->magic) == 0) {
			const bool star = memcmp(header->pad + 8, "tar", 4) == 0;
			size = strnlen(header->prefix, star ? 131 : sizeof header->prefix);
			memcpy(joined, header->prefix, size);
			if (size)
				joined[size++] = '/';
		}
		const size_t length = strnlen(header->name, sizeof header->name);
		memcpy(joined + size, header->name, length);
		size += length;
	}
	name_label(unpacker, name, size);
	if (canonical(unpacker, name, size, unpacker->path) < 0)
		return -1;
	/* Before POSIX a directory was a file with a slash behind its name. */
	if ((unpacker->type == '0' || unpacker->type == 0 || unpacker->type == '7') && name[size - 1] == '/')
		unpacker->type = '5';
	return 0;
}

static int read_link(struct unpacker *unpacker, const struct rl_tar_header *header)
{
	const bool given = unpacker->local.mask & GIVEN_LINK;
	const char *link = given ? unpacker->given_link : header->link;
	const size_t size = given ? strlen(link) : strnlen(link, sizeof header->link);

	if (size == 0)
		return malformed(unpacker, "is a link to nothing");
	if (unpacker->type == '1')
		return canonical(unpacker, link, size, unpacker->link);
	memcpy(unpacker->link, link, size); /* shorter than PATH_MAX */
	unpacker->link[size] = 0;
	return 0;
}

/* An entry that is a file, of whatever type. */
static int unpack_entry(struct unpacker *unpacker, const unsigned char *block)
{
	struct rl_tar_header header;

	memcpy(&header, block, sizeof header);
	if (read_name(unpacker, &header) < 0 || read_attributes(unpacker, &header) < 0)
		return -1;
	int kind = kind_of(unpacker, unpacker->path);
	if (kind < 0)
		return -1;
	/* Only these have data; what the size of another says does not count. */
	const bool has_data = unpacker->type == '0' || unpacker->type == 0 || unpacker->type == '7' || unpacker->type == 'S';
	if (!has_data)
		unpacker->size = 0;
	if (kind != KIND_FILE) {
		if (unpacker->type == 'S')
			return malformed(unpacker, "a whiteout is not a sparse file");
		if (kind == KIND_METADATA)
			return skip_data(unpacker, unpacker->size);
		unpacker->result->entries++;
		if ((kind == KIND_WHITEOUT ? unpack_whiteout : unpack_opaque)(unpacker) < 0)
			return -1;
		return skip_data(unpacker, unpacker->size);
	}
	if (!*unpacker->path && unpacker->type != '5')
		return hostile(unpacker, "the root is not a directory");
	if ((unpacker->type == '1' || unpacker->type == '2') && read_link(unpacker, &header) < 0)
		return -1;
	if (unpacker->type == '1' && !*unpacker->link)
		return malformed(unpacker, "is a hard link to a directory");
	unpacker->result->entries++;
	switch (unpacker->type) {
	case 0:
	case '0':
	case '7':
		return unpack_file(unpacker, NULL);
	case 'S':
		return unpack_file(unpacker, (const unsigned char *)&header);
	case '1':
		return unpack_hard_link(unpacker);
	case '2':
	case '6':
		return unpack_special(unpacker);
	case '3':
	case '4':
		unpacker->result->entries--;
		unpacker->result->skipped_devices++;
		return 0;
	default:
		return unpack_directory(unpacker);
	}
}

static bool all_zero(const unsigned char *block)
{
	return !block[0] && memcmp(block, block + 1, RL_BLOCK - 1) == 0;
}

static int read_headers(struct unpacker *unpacker)
{
	static const char files[] = "01234567S";
	const unsigned char *block;
	struct rl_tar_header header;
	bool extended = false;
	int64_t checksum, size;
	int got;

	while ((got = next_block(unpacker, &block)) > 0) {
		if (all_zero(block)) {
			got = next_block(unpacker, &block);
			if (got > 0 && !all_zero(block))
				return malformed(unpacker, "the archive has a block of zeros amid its entries");
			break;
		}
		memcpy(&header, block, sizeof header);
		name_label(unpacker, header.name, strnlen(header.name, sizeof header.name));
		if (!field(header.checksum, sizeof header.checksum, &checksum) ||
		    (checksum != rl_checksum(&header, false) && checksum != (int)rl_checksum(&header, true)))
			return malformed(unpacker, "a header is damaged, or this is not a tar archive");
		if (!field(header.size, sizeof header.size, &size) || size < 0)
			return malformed(unpacker, "the size in a header is damaged");
		unpacker->type = header.type;
		unpacker->size = (uint64_t)size;
		extended = true;
		switch (header.type) {
		case 'x':
		case 'X':
			got = read_records(unpacker, unpacker->size, &unpacker->local);
			break;
		case 'g':
			got = read_records(unpacker, unpacker->size, &unpacker->global);
			unpacker->global.mask &= GIVEN_GLOBALLY;
			forget_extensions(unpacker);
			extended = false;
			break;
		case 'L':
			got = read_long_text(unpacker, unpacker->size, GIVEN_PATH, unpacker->given_path);
			break;
		case 'K':
			got = read_long_text(unpacker, unpacker->size, GIVEN_LINK, unpacker->given_link);
			break;
		case 'V': /* the name of the archive */
			got = skip_data(unpacker, unpacker->size);
			break;
		default:
			if (header.type && !strchr(files, header.type))
				return malformed(unpacker, "is of an unknown type");
			if (unpacker->local.mask & GIVEN_SIZE)
				unpacker->size = unpacker->local.size;
			got = unpack_entry(unpacker, (const unsigned char *)&header);
			forget_extensions(unpacker);
			extended = false;
		}
		if (got < 0)
			return -1;
		unpacker->label_size = 0;
	}
	if (got < 0)
		return -1;
	return extended ? malformed(unpacker, "the archive ends amid an entry") : 0;
}

/* What the root directory has inherited from the host must not pass on to the files of the image. */
static int prepare_root(struct unpacker *unpacker)
{
	struct stat status;

	(void)fremovexattr(unpacker->root, "system.posix_acl_default");
	(void)fremovexattr(unpacker->root, "system.posix_acl_access");
	if (fstat(unpacker->root, &status) < 0)
		return refused(unpacker, "cannot unpack");
	if (status.st_mode & S_ISGID && fchmod(unpacker->root, status.st_mode & 0777) < 0)
		return refused(unpacker, "cannot set the mode of the root");
	return 0;
}

static void release(struct unpacker *unpacker)
{
	forget_directories(unpacker);
	for (size_t i = 0; i < unpacker->late_count; i++)
		free(unpacker->late[i].attributes.records);
	free(unpacker->late);
	free(unpacker->paths);
	free(unpacker->extents);
	free(unpacker->records);
	free(unpacker->buffer);
	free(unpacker);
}

int rl_unpack(int tar_fd, int root_fd, const struct rl_unpack_options *options, struct rl_unpack_result *result)
{
	*result = (struct rl_unpack_result){ .class = RL_UNPACK_DONE };
	struct unpacker *unpacker = calloc(1, sizeof *unpacker);
	if (!unpacker) {
		*result = (struct rl_unpack_result){ .class = RL_UNPACK_HOST, .error = ENOMEM, .text = "cannot unpack" };
		return -1;
	}
	unpacker->options = options;
	unpacker->result = result;
	unpacker->tar = tar_fd;
	unpacker->root = root_fd;
	for (size_t i = 0; i < CACHED; i++)
		unpacker->cache[i].directory = -1;
	unpacker->buffer = malloc(BUFFER);
	unpacker->records = malloc(RECORDS_MAX + 1);
	umask(0);
	(void)fcntl(tar_fd, F_SETPIPE_SZ, BUFFER); /* where it is a pipe, and the user has not too many of that size */

	int failed;
	if (!unpacker->buffer || !unpacker->records)
		failed = refused(unpacker, "cannot unpack");
	else
		failed = prepare_root(unpacker) < 0 || read_headers(unpacker) < 0 || drain(unpacker) < 0 || set_late_attributes(unpacker) < 0;
	if (!failed && options->durable && syncfs(root_fd) < 0) {
		unpacker->label_size = 0;
		failed = refused(unpacker, "cannot make the layer durable");
	}
	release(unpacker);
	return failed ? -1 : 0;
}
