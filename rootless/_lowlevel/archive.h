/* archive.h: what unpack.c and pack.c agree on: the blocks of a tar (pax(1), tar(5)), the names and attributes that a layer reserves, how a failure reads. */
#ifndef RL_ARCHIVE_H
#define RL_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { RL_BLOCK = 512 };

struct rl_tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
	char magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], pad[12];
};

_Static_assert(sizeof(struct rl_tar_header) == RL_BLOCK, "a header is one block");

#define RL_WHITEOUT ".wh."
#define RL_WHITEOUT_META ".wh..wh."
#define RL_WHITEOUT_OPAQUE ".wh..wh..opq"

#define RL_XATTR_OPAQUE "user.overlay.opaque"
#define RL_XATTR_OWNER "user.rl.owner"
#define RL_XATTR_PAX "SCHILY.xattr."

static inline bool rl_starts(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Attributes by which overlays, and we, keep what is not the file's own. No archive may set them, none is told of them. */
static inline bool rl_xattr_is_ours(const char *name)
{
	return rl_starts(name, "user.overlay.") || rl_starts(name, "trusted.overlay.") || rl_starts(name, "user.rl.") ||
	       rl_starts(name, "user.fuseoverlayfs.") || rl_starts(name, "security.fuseoverlayfs.") || rl_starts(name, "user.containers.");
}

/* The sum of a header's bytes, its checksum field taken as spaces. */
static inline unsigned rl_checksum(const struct rl_tar_header *header, bool as_signed)
{
	const unsigned char *bytes = (const unsigned char *)header;
	const size_t from = offsetof(struct rl_tar_header, checksum), to = from + sizeof header->checksum;
	unsigned sum = ' ' * (unsigned)sizeof header->checksum;

	for (size_t i = 0; i < sizeof *header; i++)
		if (i < from || i >= to)
			sum += as_signed ? (unsigned)(signed char)bytes[i] : bytes[i];
	return sum;
}

/* Write `NAME: WHAT` to text: NAME in printable ASCII (other bytes as \ooo), cut where it would take WHAT's room. */
static inline void rl_describe(char *text, size_t size, const char *name, size_t length, const char *what)
{
	static const char more[] = "...";
	size_t used = 0, tail = strlen(what) + sizeof ": " - 1;
	size_t room = size - 1 > tail + sizeof more ? size - 1 - tail - (sizeof more - 1) : 0;

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)name[i];
		bool plain = byte > ' ' && byte < 0x7f && byte != '\\';

		if (used + (plain ? 1 : 4) > room) {
			memcpy(text + used, more, sizeof more - 1);
			used += sizeof more - 1;
			break;
		}
		if (plain) {
			text[used++] = (char)byte;
		} else {
			text[used++] = '\\';
			for (int shift = 6; shift >= 0; shift -= 3)
				text[used++] = (char)('0' + (byte >> shift & 7));
		}
	}
	if (used) {
		memcpy(text + used, ": ", 2);
		used += 2;
	}
	for (; *what && used < size - 1; what++)
		text[used++] = *what;
	text[used] = 0;
}

#endif
