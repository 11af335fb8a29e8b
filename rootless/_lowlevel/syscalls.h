/* syscalls.h: system calls and constants that the C libraries we build with (musl 1.2, glibc 2.36) do not declare, or declare in headers that clash.
 * Each is named rl_NAME after its system call and behaves as syscall(2): -1 and errno on failure. */
#ifndef RL_SYSCALLS_H
#define RL_SYSCALLS_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Numbers from 424 on are the same on every architecture. */
#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

#define RL_RESOLVE_NO_MAGICLINKS 0x02
#define RL_RESOLVE_NO_SYMLINKS 0x04
#define RL_RESOLVE_IN_ROOT 0x10

#define RL_OPEN_TREE_CLONE 1u
#define RL_OPEN_TREE_CLOEXEC O_CLOEXEC
#define RL_AT_RECURSIVE 0x8000u
#define RL_MOVE_MOUNT_F_EMPTY_PATH 0x04u
#define RL_MOVE_MOUNT_T_EMPTY_PATH 0x40u

#define RL_MOUNT_ATTR_RDONLY 0x01u

#define RL_CLOSE_RANGE_CLOEXEC 4u

struct rl_open_how {
	uint64_t flags, mode, resolve;
};

struct rl_mount_attr {
	uint64_t attr_set, attr_clr, propagation, userns_fd;
};

static inline int rl_openat2(int directory, const char *path, const struct rl_open_how *how)
{
	return (int)syscall(SYS_openat2, directory, path, how, sizeof *how);
}

static inline int rl_open_tree(int directory, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, directory, path, flags);
}

static inline int rl_move_mount(int from, const char *from_path, int to, const char *to_path, unsigned flags)
{
	return (int)syscall(SYS_move_mount, from, from_path, to, to_path, flags);
}

static inline int rl_mount_setattr(int directory, const char *path, unsigned flags, const struct rl_mount_attr *attr)
{
	return (int)syscall(SYS_mount_setattr, directory, path, flags, attr, sizeof *attr);
}

static inline int rl_pidfd_open(int pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

static inline int rl_close_range(unsigned first, unsigned last, unsigned flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

static inline int rl_pivot_root(const char *new_root, const char *put_old)
{
	return (int)syscall(SYS_pivot_root, new_root, put_old);
}

#endif
