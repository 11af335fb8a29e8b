/* unpack.h: apply one image layer, an uncompressed tar, to an empty directory (image-spec, layer.md).
 *
 * The archive is hostile until shown otherwise. Nothing that it says is handed to the kernel as a path of the host: names are resolved beneath the root,
 * symlinks included, and the last component is never followed. Memory is bounded whatever the archive's fields claim.
 *
 * What is made on disk is a lower layer as the kernel's overlay and fuse-overlayfs read it:
 *   .wh.NAME       a character device 0/0 called NAME; where the layer itself has a directory NAME, that directory is opaque instead;
 *                  where it has another NAME, nothing, as that hides what is below anyway
 *   .wh..wh..opq   the attribute user.overlay.opaque=y on the directory: it hides what lower layers have there, never its siblings in the archive
 *   .wh..wh.*      skipped, with all beneath: metadata of AUFS
 *   owner          as it is; with `single_id` 0:0, and where the true owner is another, the attribute user.rl.owner="UID:GID" (decimal) remembers it.
 *                  Linux refuses user attributes on anything but files and directories, so the owner of a symlink or fifo is forgotten then
 *   devices        not made, as no user namespace may; counted in skipped_devices. A container's /dev is made when it starts
 *   attributes     of SCHILY.xattr.* and LIBARCHIVE.xattr.*. Those that would speak to an overlay or to us (user.overlay.*, user.rl.* …) are dropped; those that
 *                  the kernel or file system refuses (trusted.*, security.selinux) are counted in skipped_xattrs. security.capability must be taken
 * Directories that the archive implies but has no entry for are 0755 and of root. The umask of the process is cleared. */
#ifndef RL_UNPACK_H
#define RL_UNPACK_H

#include <stdbool.h>
#include <stdint.h>

struct rl_unpack_options {
	bool single_id;      /* the namespace has one id: see `owner` above */
	bool whiteout_files; /* keep .wh.NAME and .wh..wh..opq as empty files, for a file system that takes neither device nodes nor attributes */
	bool durable;        /* syncfs(2) before success is said */
};

enum rl_unpack_class {
	RL_UNPACK_DONE = 0,
	RL_UNPACK_MALFORMED = 1, /* not an archive, damaged, truncated, or one that asks for what cannot be */
	RL_UNPACK_HOSTILE = 2,   /* an entry that no honest tool writes: its name leads out of the root, its size is absurd */
	RL_UNPACK_HOST = 3,      /* the host refused: space, permission, an owner outside the id map */
};

struct rl_unpack_result {
	uint64_t entries;         /* applied, whiteouts included */
	uint64_t bytes;           /* of file contents written; holes do not count */
	uint64_t skipped_devices;
	uint64_t skipped_xattrs;
	bool opaque_root;         /* the layer hides every layer below. The overlay of the kernel does not look for the mark on a root: leave those layers out */
	int class;                /* enum rl_unpack_class */
	int error;                /* errno, or 0 where the archive is at fault */
	char text[240];           /* `ENTRY: what failed`, printable ASCII: bytes of the entry's name outside it are written \ooo */
};

/* Apply the tar at `tar_fd` (read to its end on success, padding included) to the directory `root_fd`, as uid 0 of the namespace that owns it.
 * 0, or -1 and *result says why. A failure leaves what was made so far. */
int rl_unpack(int tar_fd, int root_fd, const struct rl_unpack_options *options, struct rl_unpack_result *result);

#endif
