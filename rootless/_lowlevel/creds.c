/* creds.c: who the process is and what it may do. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "syscalls.h"

#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif

int rl_do_setns(struct rl_child *child, const struct rl_op *op)
{
	if (op->number[0] == CLONE_NEWPID) /* done by rl_launch: this process was born in it */
		return 0;
	int descriptor = open(rl_text(child->plan, op, 0), O_RDONLY | O_CLOEXEC);
	if (descriptor < 0)
		return -1;
	int joined = setns(descriptor, (int)op->number[0]);
	int saved = errno;
	close(descriptor);
	errno = saved;
	return joined;
}

int rl_do_loopback(struct rl_child *child, const struct rl_op *op)
{
	struct ifreq request = { .ifr_name = "lo" };
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)child;
	(void)op;
	if (control < 0)
		return -1;
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	int up = ioctl(control, SIOCSIFFLAGS, &request);
	int saved = errno;
	close(control);
	errno = saved;
	return up;
}

int rl_do_rlimit(struct rl_child *child, const struct rl_op *op)
{
	struct rlimit limit = { .rlim_cur = (rlim_t)op->number[1], .rlim_max = (rlim_t)op->number[2] };

	(void)child;
	return setrlimit((int)op->number[0], &limit);
}

int rl_do_oom_score(struct rl_child *child, const struct rl_op *op)
{
	char text[8];
	int value = (int)op->number[0] - 1000, length = 0;
	unsigned magnitude = (unsigned)(value < 0 ? -value : value);

	(void)child;
	for (unsigned unit = 1000; unit; unit /= 10)
		if (magnitude >= unit || unit == 1) {
			if (length == 0 && value < 0)
				text[length++] = '-';
			text[length++] = (char)('0' + magnitude / unit % 10);
		}
	int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (file < 0)
		return -1;
	ssize_t written = write(file, text, (size_t)length);
	int saved = errno;
	close(file);
	errno = saved;
	return written < 0 ? -1 : 0;
}

int rl_do_bounding(struct rl_child *child, const struct rl_op *op)
{
	(void)child;
	for (unsigned capability = 0; capability < 64; capability++) {
		if (op->number[0] & (uint64_t)1 << capability)
			continue;
		int held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
		if (held < 0) /* EINVAL: past the last one that this kernel knows */
			return errno == EINVAL ? 0 : -1;
		if (held && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return -1;
	}
	return 0;
}

/* Pipes and terminals belong to whoever made them; the container's user must be able to open /dev/stdout again. */
static void own_streams(uid_t uid)
{
	struct stat status;

	for (int stream = 0; stream < 3; stream++)
		if (fstat(stream, &status) == 0 && (S_ISFIFO(status.st_mode) || isatty(stream)))
			(void)fchown(stream, uid, (gid_t)-1);
}

int rl_do_user(struct rl_child *child, const struct rl_op *op)
{
	uid_t uid = (uid_t)op->number[0];
	gid_t gid = (gid_t)op->number[1];
	const gid_t *groups = op->text[0] ? (const gid_t *)(const void *)rl_text(child->plan, op, 0) : NULL;

	if (uid == (uid_t)-1 || gid == (gid_t)-1) { /* "leave it as it is", which is root; setresuid(2) */
		errno = EINVAL;
		return -1;
	}
	own_streams(uid);
	/* Raw system calls: the C libraries' wrappers signal other threads, which a fresh clone does not have. */
	if (syscall(SYS_setgroups, op->count[0] / sizeof *groups, groups) < 0 && !(op->flags & RL_OP_OPTIONAL && errno == EPERM))
		return -1;
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return -1;
	if (syscall(SYS_setresgid, gid, gid, gid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0)
		return -1;
	return 0;
}

int rl_do_caps(struct rl_child *child, const struct rl_op *op)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	(void)child;
	for (int half = 0; half < 2; half++) {
		data[half].effective = (uint32_t)(op->number[0] >> (32 * half));
		data[half].permitted = (uint32_t)(op->number[1] >> (32 * half));
		data[half].inheritable = (uint32_t)(op->number[2] >> (32 * half));
	}
	if (syscall(SYS_capset, &header, data) < 0)
		return -1;
	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
		return -1;
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return -1;
	for (unsigned capability = 0; capability < 64; capability++)
		if (op->number[3] & (uint64_t)1 << capability && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
			return -1;
	return 0;
}

int rl_do_seccomp(struct rl_child *child, const struct rl_op *op)
{
	const size_t length = op->count[0] / sizeof(struct sock_filter);
	struct sock_fprog program = {
		.len = (unsigned short)length,
		.filter = (struct sock_filter *)(void *)rl_text(child->plan, op, 0),
	};

	if (length > BPF_MAXINSNS) { /* `len` would hold another, shorter length, and the kernel take the beginning for the whole */
		errno = E2BIG;
		return -1;
	}
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)op->number[0], &program);
}
