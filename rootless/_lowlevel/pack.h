/* pack.h: the reverse of unpack.h: write a directory as one image layer, an uncompressed tar.
 *
 * The same tree gives the same bytes: names in order of their bytes, whiteouts first; no access times, no names of users. ustar, with pax headers where ustar has no
 * room (long names, large sizes and ids, fractions of a second) and for extended attributes (SCHILY.xattr.*).
 *   user.rl.owner        gives the true owner back that an unpack with a single id has recorded
 *   character device 0/0 becomes .wh.NAME, and user.overlay.opaque=y becomes .wh..wh..opq
 *   names .wh.*          are written as they are: they are whiteouts where a layer was unpacked with whiteout_files
 *   attributes           user.*, security.capability (always as version 2, without a namespace's root id), POSIX ACLs; none of an overlay's, none of ours
 *   sockets              are skipped. Mounts beneath the directory are not entered: the mount point is written as an empty directory */
#ifndef RL_PACK_H
#define RL_PACK_H

#include <stdint.h>

struct rl_pack_result {
	uint64_t entries;
	uint64_t bytes;           /* of file contents */
	uint64_t skipped_sockets;
	int error;                /* errno; EPIPE: the reader has gone */
	char text[240];           /* `PATH: what failed`, printable ASCII */
};

/* Write the tree beneath `root_fd` to `tar_fd`. 0, or -1 and *result says why; EAGAIN: a file changed while it was read. SIGPIPE must be ignored by the caller. */
int rl_pack(int root_fd, int tar_fd, struct rl_pack_result *result);

#endif
