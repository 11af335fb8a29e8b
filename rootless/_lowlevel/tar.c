/* tar.c: from a stream of blocks to entries: fields of a header, names, contents (sparse ones too), and the loop over the headers. */
#define _GNU_SOURCE
#include "tar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "blocks.h"
#include "pax.h"

struct rl_tar {
	struct rl_fault *fault;
	struct rl_blocks blocks;
	struct rl_pax pax;
	struct rl_tar_header header; /* of the entry at hand */
	uint64_t size, left;         /* of its data: all, and what was not taken yet */
	struct rl_tar_entry entry;
};

/* ---- fields of a header */

/* A numeric field: octal digits amid spaces and NULs, or, with the highest bit set, a big-endian number in two's complement (GNU). */
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

/* The type that a letter means; -1 where it is unknown. */
static int type_of(char letter)
{
	if (letter == 0 || letter == '7') /* before POSIX; a file of contiguous blocks */
		return RL_TAR_FILE;
	return strchr("0123456S", letter) ? letter : -1;
}

static bool has_data(enum rl_tar_type type)
{
	return type == RL_TAR_FILE || type == RL_TAR_GNU_SPARSE;
}

/* The owner, mode and time of the entry at hand; of each, what an extended header says goes before the header. */
static int read_attributes(struct rl_tar *tar)
{
	const struct rl_tar_header *header = &tar->header;
	const struct rl_given *given = &tar->pax.given;
	int64_t mode, uid, gid, mtime;

	if (!field(header->mode, sizeof header->mode, &mode) || !field(header->uid, sizeof header->uid, &uid) ||
	    !field(header->gid, sizeof header->gid, &gid) || !field(header->mtime, sizeof header->mtime, &mtime))
		return rl_malformed(tar->fault, "a number in the header is damaged");
	if (given->mask & RL_GIVEN_UID)
		uid = (int64_t)given->uid;
	if (given->mask & RL_GIVEN_GID)
		gid = (int64_t)given->gid;
	if (uid < 0 || gid < 0 || uid >= UINT32_MAX || gid >= UINT32_MAX) /* the highest is chown(2)'s "as it is" */
		return rl_malformed(tar->fault, "its owner is out of range");
	const bool has_records = given->mask & RL_GIVEN_XATTR;
	tar->entry.attributes = (struct rl_attributes){
		.uid = (uint32_t)uid,
		.gid = (uint32_t)gid,
		.mode = (mode_t)mode & 07777,
		.mtime = given->mask & RL_GIVEN_MTIME ? given->mtime : (struct timespec){ .tv_sec = mtime },
		.records = has_records ? tar->pax.records : NULL,
		.records_size = has_records ? tar->pax.records_size : 0,
	};
	return 0;
}

/* ---- names */

int rl_canonical(struct rl_fault *fault, const char *name, size_t size, char result[PATH_MAX])
{
	const char *end = name + size;
	size_t used = 0;

	if (size == 0)
		return rl_malformed(fault, "an entry has no name");
	if (memchr(name, 0, size))
		return rl_hostile(fault, "the name has a NUL byte");
	while (name < end) {
		const char *slash = memchr(name, '/', (size_t)(end - name));
		size_t length = (size_t)((slash ? slash : end) - name);

		if (length == 2 && name[0] == '.' && name[1] == '.')
			return rl_hostile(fault, "the name has the component `..`");
		if (length > NAME_MAX || used + length + 2 > PATH_MAX)
			return rl_malformed(fault, "the name is too long");
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

/* The name of the entry at hand: of an extended header, or of the header, whose `prefix` is one in POSIX's format only (and shorter in star's). */
static int read_name(struct rl_tar *tar)
{
	const struct rl_tar_header *header = &tar->header;
	char joined[sizeof header->prefix + 1 + sizeof header->name];
	const char *name = joined;
	size_t size = 0;

	if (tar->pax.given.mask & RL_GIVEN_PATH) {
		name = tar->pax.path;
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
	rl_name_entry(tar->fault, name, size);
	if (rl_canonical(tar->fault, name, size, tar->entry.path) < 0)
		return -1;
	/* Before POSIX a directory was a file with a slash behind its name. */
	if (tar->entry.type == RL_TAR_FILE && name[size - 1] == '/')
		tar->entry.type = RL_TAR_DIRECTORY;
	return 0;
}

static void read_link(struct rl_tar *tar)
{
	const bool given = tar->pax.given.mask & RL_GIVEN_LINK;
	const char *link = given ? tar->pax.link : tar->header.link;
	const size_t size = given ? strlen(link) : strnlen(link, sizeof tar->header.link);

	memcpy(tar->entry.link, link, size); /* shorter than PATH_MAX */
	tar->entry.link[size] = 0;
}

/* ---- contents */

/* Numbers of a sparse map that stand, a line each, before a file's data (format 1.0). */
static int read_map_line(struct rl_tar *tar, uint64_t *number)
{
	const unsigned char *byte;
	char line[24];
	size_t length = 0;

	do {
		if (tar->left == 0 || length == sizeof line)
			return rl_malformed(tar->fault, "the map of a sparse file is damaged");
		if (rl_peek(&tar->blocks, 1, &byte) < 0)
			return -1;
		line[length++] = (char)*byte;
		rl_took(&tar->blocks, 1);
		tar->left--;
	} while (line[length - 1] != '\n');
	return rl_decimal(line, line + length - 1, number) ? 0 : rl_malformed(tar->fault, "the map of a sparse file is damaged");
}

static int read_map_before_data(struct rl_tar *tar)
{
	uint64_t count, offset, size;

	tar->pax.map.count = 0;
	if (read_map_line(tar, &count) < 0)
		return -1;
	while (count--)
		if (read_map_line(tar, &offset) < 0 || read_map_line(tar, &size) < 0 || rl_add_extent(&tar->pax, offset, size) < 0)
			return -1;
	const uint64_t used = tar->size - tar->left, padding = (RL_BLOCK - used % RL_BLOCK) % RL_BLOCK;
	if (padding > tar->left)
		return rl_malformed(tar->fault, "the map of a sparse file is damaged");
	tar->left -= padding;
	return rl_skip(&tar->blocks, padding);
}

/* The map of an old GNU sparse file: four pieces in its header, 21 in each block that follows. */
static int read_old_map(struct rl_tar *tar)
{
	enum { PIECE = 24, IN_HEADER = 4, IN_BLOCK = 21, AT = 386, MORE = 482, REAL_SIZE = 483, MORE_IN_BLOCK = 504 };
	const unsigned char *header = (const unsigned char *)&tar->header;
	const char *pieces = (const char *)header + AT;
	size_t count = IN_HEADER;
	bool more = header[MORE];
	int64_t offset, size;

	if (!field((const char *)header + REAL_SIZE, 12, &size) || size < 0)
		return rl_malformed(tar->fault, "the size of a sparse file is damaged");
	tar->pax.given.real_size = (uint64_t)size;
	tar->pax.given.mask |= RL_GIVEN_REAL_SIZE | RL_GIVEN_MAP;
	tar->pax.map.count = 0;
	for (;;) {
		for (size_t i = 0; i < count && pieces[i * PIECE]; i++) {
			if (!field(pieces + i * PIECE, 12, &offset) || !field(pieces + i * PIECE + 12, 12, &size) || offset < 0 || size < 0)
				return rl_malformed(tar->fault, "the map of a sparse file is damaged");
			if (rl_add_extent(&tar->pax, (uint64_t)offset, (uint64_t)size) < 0)
				return -1;
		}
		if (!more)
			return 0;
		const unsigned char *block;
		int got = rl_next_block(&tar->blocks, &block);
		if (got <= 0)
			return got < 0 ? -1 : rl_malformed(tar->fault, "the archive is cut short");
		pieces = (const char *)block;
		count = IN_BLOCK;
		more = block[MORE_IN_BLOCK];
	}
}

/* Check that the map is in order, within the file, and of as much data as there is. */
static int check_map(struct rl_tar *tar)
{
	const struct rl_map *map = &tar->pax.map;
	uint64_t reached = 0, stored = 0;

	if (map->open || !(tar->pax.given.mask & RL_GIVEN_REAL_SIZE))
		return rl_malformed(tar->fault, "the map of a sparse file is damaged");
	for (size_t i = 0; i < map->count; i++) {
		const struct rl_extent *extent = &map->extents[i];

		/* both are at most INT64_MAX: their sum fits */
		if (extent->offset < reached || extent->offset + extent->size > tar->pax.given.real_size)
			return rl_malformed(tar->fault, "the map of a sparse file does not fit the file");
		reached = extent->offset + extent->size;
		stored += extent->size;
	}
	return stored == tar->left ? 0 : rl_malformed(tar->fault, "the map of a sparse file does not fit its data");
}

int rl_tar_read_map(struct rl_tar *tar)
{
	struct rl_given *given = &tar->pax.given;

	if (tar->entry.type == RL_TAR_GNU_SPARSE && read_old_map(tar) < 0)
		return -1;
	if (given->sparse_major == 1 && given->sparse_minor == 0) {
		given->mask |= RL_GIVEN_MAP;
		if (read_map_before_data(tar) < 0)
			return -1;
	}
	return given->mask & RL_GIVEN_MAP ? check_map(tar) : 0;
}

static int copy(struct rl_tar *tar, int file, uint64_t size, uint64_t *bytes)
{
	const unsigned char *piece;

	while (size) {
		ssize_t there = rl_peek(&tar->blocks, size, &piece);
		if (there < 0)
			return -1;
		ssize_t written = write(file, piece, (size_t)there);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return rl_refused(tar->fault, "cannot write");
		rl_took(&tar->blocks, (size_t)written);
		tar->left -= (size_t)written;
		size -= (size_t)written;
		*bytes += (size_t)written;
	}
	return 0;
}

int rl_tar_copy(struct rl_tar *tar, int file, uint64_t *bytes)
{
	const struct rl_map *map = &tar->pax.map;

	if (!(tar->pax.given.mask & RL_GIVEN_MAP))
		return copy(tar, file, tar->left, bytes);
	for (size_t i = 0; i < map->count; i++) {
		if (lseek(file, (off_t)map->extents[i].offset, SEEK_SET) < 0)
			return rl_refused(tar->fault, "cannot write");
		if (copy(tar, file, map->extents[i].size, bytes) < 0)
			return -1;
	}
	return ftruncate(file, (off_t)tar->pax.given.real_size) < 0 ? rl_refused(tar->fault, "cannot set the size") : 0;
}

/* ---- the loop */

/* Skip what was not taken of the entry at hand, and forget the entry. */
static int leave(struct rl_tar *tar)
{
	if (rl_skip(&tar->blocks, tar->left) < 0 || rl_skip_padding(&tar->blocks, tar->size) < 0)
		return -1;
	tar->size = tar->left = 0;
	tar->fault->entry_size = 0;
	return 0;
}

static bool all_zero(const unsigned char *block)
{
	return !block[0] && memcmp(block, block + 1, RL_BLOCK - 1) == 0;
}

/* Read the next header and check it. 1, or 0 at the end of the archive (two blocks of zeros, or that of the stream), or -1. */
static int read_header(struct rl_tar *tar)
{
	struct rl_tar_header *header = &tar->header;
	const unsigned char *block;
	int64_t checksum, size;

	int got = rl_next_block(&tar->blocks, &block);
	if (got > 0 && all_zero(block)) {
		got = rl_next_block(&tar->blocks, &block);
		if (got > 0 && !all_zero(block))
			return rl_malformed(tar->fault, "the archive has a block of zeros amid its entries");
		return got < 0 ? -1 : 0;
	}
	if (got <= 0)
		return got;
	memcpy(header, block, sizeof *header);
	rl_name_entry(tar->fault, header->name, strnlen(header->name, sizeof header->name));
	if (!field(header->checksum, sizeof header->checksum, &checksum) ||
	    (checksum != rl_checksum(header, false) && checksum != (int)rl_checksum(header, true)))
		return rl_malformed(tar->fault, "a header is damaged, or this is not a tar archive");
	if (!field(header->size, sizeof header->size, &size) || size < 0)
		return rl_malformed(tar->fault, "the size in a header is damaged");
	tar->size = (uint64_t)size;
	return 1;
}

/* The header at hand is that of an entry. */
static int read_entry(struct rl_tar *tar)
{
	const int type = type_of(tar->header.type);

	if (type < 0)
		return rl_malformed(tar->fault, "is of an unknown type");
	tar->entry.type = (enum rl_tar_type)type;
	if (read_name(tar) < 0 || read_attributes(tar) < 0)
		return -1;
	read_link(tar);
	if (tar->pax.given.mask & RL_GIVEN_SIZE)
		tar->size = tar->pax.given.size;
	if (!has_data(tar->entry.type)) /* what the size of another says does not count */
		tar->size = 0;
	tar->left = tar->size;
	return 1;
}

int rl_tar_next(struct rl_tar *tar, struct rl_tar_entry **entry)
{
	struct rl_pax *pax = &tar->pax;
	bool extended = false;
	int got;

	*entry = &tar->entry;
	if (leave(tar) < 0)
		return -1;
	rl_pax_forget(pax);
	while ((got = read_header(tar)) > 0) {
		extended = tar->header.type != 'g';
		switch (tar->header.type) {
		case 'x':
		case 'X':
			got = rl_read_records(pax, tar->size, &pax->given);
			break;
		case 'g':
			got = rl_read_records(pax, tar->size, &pax->global);
			pax->global.mask &= RL_GIVEN_GLOBALLY;
			rl_pax_forget(pax);
			break;
		case 'L':
			got = rl_read_long_text(pax, tar->size, RL_GIVEN_PATH, pax->path);
			break;
		case 'K':
			got = rl_read_long_text(pax, tar->size, RL_GIVEN_LINK, pax->link);
			break;
		case 'V': /* the name of the archive */
			tar->left = tar->size;
			got = leave(tar);
			break;
		default:
			return read_entry(tar);
		}
		if (got < 0)
			return -1;
		tar->size = 0;
		tar->fault->entry_size = 0;
	}
	if (got < 0)
		return -1;
	if (extended)
		return rl_malformed(tar->fault, "the archive ends amid an entry");
	return rl_drain(&tar->blocks);
}

struct rl_tar *rl_tar_begin(int file, struct rl_fault *fault)
{
	struct rl_tar *tar = calloc(1, sizeof *tar);

	if (!tar)
		return NULL;
	tar->fault = fault;
	if (rl_blocks_begin(&tar->blocks, file, fault) < 0 || rl_pax_begin(&tar->pax, &tar->blocks) < 0) {
		rl_tar_end(tar);
		errno = ENOMEM;
		return NULL;
	}
	return tar;
}

void rl_tar_end(struct rl_tar *tar)
{
	rl_pax_end(&tar->pax);
	rl_blocks_end(&tar->blocks);
	free(tar);
}
