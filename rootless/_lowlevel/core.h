/* core.h: what Python and the core program say to each other.
 *
 * Two things cross the border: a *plan* (Python -> C), which is a read-only memory file of one header, an array of operations of fixed shape
 * and an area of strings; and *messages* (both ways) over a SOCK_SEQPACKET socket, each a 32-bit type and a payload of fixed shape or raw bytes.
 * rootless/runtime/plan.py packs the plan; tests/unit/test_abi.py holds the two files together. All numbers are of the host's byte order: both ends
 * are always on one machine and of one build.
 */
#ifndef RL_CORE_H
#define RL_CORE_H

#include <stdint.h>

/* ---- descriptors that the core program is started with */

enum {
	RL_FD_PLAN = 3,    /* the plan (memfd), or /dev/null in modes that need none */
	RL_FD_CONTROL = 4, /* the control socket */
	RL_FD_FIRST = 5,   /* further descriptors, as the mode says */
};

/* ---- the plan */

#define RL_PLAN_MAGIC 0x31504c52u /* "RLP1" */
#define RL_PLAN_MAX_OPS 4096u
#define RL_PLAN_MAX_SIZE (16u << 20)

struct rl_plan_header {
	uint32_t magic;
	uint32_t size;        /* of the whole file, in bytes */
	uint32_t op_count;
	uint32_t clone_flags; /* CLONE_NEW* for the first process */
};

struct rl_op {
	uint32_t kind;     /* enum rl_op_kind */
	uint32_t flags;    /* enum rl_op_flag, or as the kind says */
	uint32_t text[4];  /* offsets of NUL-terminated strings from the start of the file; 0 is "none" */
	uint32_t count[4]; /* where not 0: text[i] is the first of so many consecutive strings, or a blob of so many bytes */
	uint64_t number[5];
};

enum rl_op_flag {
	RL_OP_OPTIONAL = 1u << 0, /* a failure is noted (RL_MSG_NOTE), not fatal */
	RL_OP_ELSE = 1u << 1,     /* on failure the next operation takes this one's place (noted); on success the next is skipped */
	RL_OP_RECURSIVE = 1u << 2,
	RL_OP_CREATE = 1u << 3,   /* make the target (directory or file) where it is missing */
	RL_OP_STDIN = 1u << 4,    /* RL_OP_MONITOR: keep standard input open for attached clients */
	RL_OP_TERMINAL = 1u << 5, /* RL_OP_MONITOR: the streams are one pseudo-terminal */
	RL_OP_NO_SYMLINKS = 1u << 6, /* MOUNT, BIND: the target must be what it is called, not reached over a symlink of the image */
};

/* Paths "in the root" are resolved beneath the descriptor that RL_OP_ROOT opened, symlinks included (openat2, RESOLVE_IN_ROOT). */
enum rl_op_kind {
	/* interpreted by the monitor */
	RL_OP_MONITOR = 1,  /* text: container directory, runtime directory, log (none: no log), name of the process; flags STDIN TERMINAL */
	RL_OP_OVERLAY = 2,  /* mount a kernel overlay. text: target, options but for the directories; text[3]: lowers, topmost first, then upper and work (list) */
	RL_OP_LIKE = 6,     /* text: pattern, target: give the directory target the owner and mode of pattern */
	RL_OP_HELPER = 3,   /* run a program that mounts the root. text: argv (list), target; number[0] 0: it exits 0 when the mount serves, 1: it stays, and the mount appears */
	RL_OP_REMOVE = 5,   /* at its end, remove the container. text: its directory, where it goes before its tree is removed, its name's link,
	                       a list of further trees to remove */
	RL_OP_NETWORK = 4,  /* start user-mode networking. text[0]: argv (list); it gets the netns at 5, ready at 6, exit at 7 */

	/* interpreted by the process that becomes the container's */
	RL_OP_SETNS = 16,       /* number[0]: CLONE_NEW*; text[0]: path of the namespace */
	RL_OP_HOSTNAME = 17,    /* text[0] */
	RL_OP_DOMAINNAME = 18,  /* text[0] */
	RL_OP_PROPAGATION = 19, /* number[0]: MS_* flags; text[0]: path, in the root once there is one */
	RL_OP_ROOT = 20,        /* text[0]: path of the root file system; RECURSIVE: bind it onto itself first */
	RL_OP_MKDIR = 21,       /* text[0] in the root; number[0]: mode */
	RL_OP_MOUNT = 22,       /* text: source, target in the root, type, data; number[0]: MS_* flags */
	RL_OP_BIND = 23,        /* text: source, target in the root, path of the mount namespace that has the source (none: ours);
	                           number: MOUNT_ATTR_* to set, to clear, to set on all below; MS_* propagation */
	RL_OP_SYMLINK = 24,     /* text: content, path in the root */
	RL_OP_MASK = 25,        /* text[0] in the root: a file becomes /dev/null, a directory an empty tmpfs, what is missing stays so */
	RL_OP_READONLY = 26,    /* text[0] in the root */
	RL_OP_TERMINAL_NEW = 27, /* a pseudo-terminal of the root's devpts becomes the standard streams; number: rows, columns; text[0]: console in the root */
	RL_OP_PIVOT = 28,       /* make the root the root */
	RL_OP_SYSCTL = 29,      /* text: path below /proc/sys in the root, value */
	RL_OP_LOOPBACK = 30,    /* bring up lo */
	RL_OP_RLIMIT = 31,      /* number: resource, soft, hard */
	RL_OP_OOM_SCORE = 32,   /* number[0]: value + 1000 */
	RL_OP_UMASK = 33,       /* number[0] */
	RL_OP_BOUNDING = 34,    /* number[0]: mask of capabilities that stay in the bounding set */
	RL_OP_USER = 35,        /* number: uid, gid; blob at text[0]: uint32_t groups; flags OPTIONAL: setgroups(2) may be refused */
	RL_OP_CAPS = 36,        /* number: effective, permitted, inheritable, ambient */
	RL_OP_NO_NEW_PRIVS = 37,
	RL_OP_SECCOMP = 38,     /* blob at text[0]: struct sock_filter array; number[0]: flags of seccomp(2) */
	RL_OP_CWD = 39,         /* text[0] */
	RL_OP_READY = 40,       /* say RL_MSG_READY to the parent, wait for RL_MSG_START */
	RL_OP_INIT = 41,        /* fork: the parent stays as a small init, the child goes on */
	RL_OP_EXEC = 42,        /* lists: candidates (paths tried in order), argv, environment */
	RL_OP_DIE_WITH_PARENT = 43, /* SIGKILL when the monitor is gone */
};

/* ---- messages */

#define RL_DATA_MAX 32768 /* bytes of payload in one message, at the most */

enum rl_message_type {
	/* to the core */
	RL_MSG_PLAN = 1,    /* with a descriptor: the container's plan */
	RL_MSG_START = 2,
	RL_MSG_STDIN = 3,   /* bytes; none: end of file */
	RL_MSG_RESIZE = 4,  /* struct rl_size */
	RL_MSG_SIGNAL = 5,  /* int32_t; answered by RL_MSG_RESULT */
	RL_MSG_ATTACH = 6,  /* uint32_t: mask of 1 << RL_STREAM_*; on a new connection */

	RL_MSG_CLOSE = 7,   /* uint32_t: RL_STREAM_*; its reader is gone, so its writer shall learn of it (EPIPE) */

	/* from the core */
	RL_MSG_ROOTFS = 32,  /* with a descriptor: the mounted root */
	RL_MSG_READY = 33,   /* struct rl_process: made, waits for START */
	RL_MSG_STARTED = 34,
	RL_MSG_FAILED = 35,  /* struct rl_failure */
	RL_MSG_NOTE = 36,    /* struct rl_failure of an operation that was optional */
	RL_MSG_STDOUT = 37,  /* bytes */
	RL_MSG_STDERR = 38,  /* bytes */
	RL_MSG_EXITED = 39,  /* int32_t: exit code, 128 + n for signal n */
	RL_MSG_TERMINAL = 40, /* with a descriptor: the master of the pseudo-terminal */
	RL_MSG_RESULT = 41,  /* int32_t: errno, or 0 */
	RL_MSG_COUNTS = 42,  /* struct rl_counts: what an unpack or a pack did */
};

enum { RL_STREAM_STDIN = 0, RL_STREAM_STDOUT = 1, RL_STREAM_STDERR = 2 };

struct rl_process {
	int32_t pid;
	uint32_t _;
	uint64_t start_time; /* field 22 of /proc/PID/stat: clock ticks since boot */
};

struct rl_size {
	uint16_t rows, columns;
};

/* Where something failed. `phase` says which plan `index` counts in. */
enum rl_phase { RL_PHASE_SETUP = 0, RL_PHASE_HOST = 1, RL_PHASE_CONTAINER = 2 };

struct rl_failure {
	uint32_t phase;
	uint32_t kind;   /* enum rl_op_kind, or enum rl_setup_step in RL_PHASE_SETUP */
	uint32_t index;
	int32_t error;   /* errno */
	char text[240];  /* what a helper program said, or empty */
};

enum rl_setup_step {
	RL_SETUP_PLAN = 1,
	RL_SETUP_USERNS = 2,
	RL_SETUP_MOUNTNS = 3,
	RL_SETUP_CLONE = 4,
	RL_SETUP_STATE = 5,
	RL_SETUP_SOCKET = 6,
	RL_SETUP_PIPES = 7,
	RL_SETUP_LOG = 8,
	RL_SETUP_CHILD = 9,   /* the child died before it said what failed */
	RL_SETUP_JOIN = 10,
	RL_SETUP_UNPACK = 11, /* the host refused */
	RL_SETUP_REMOVE = 12,
	RL_SETUP_PACK = 13,
	RL_SETUP_ARCHIVE = 14, /* the archive that was unpacked is at fault, not the host; error is 0 */
};

struct rl_counts {
	uint64_t entries, bytes, skipped_devices, skipped_xattrs;
	uint32_t opaque_root; /* the layer hides all below it */
	uint32_t _;
};

#endif
