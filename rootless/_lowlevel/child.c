/* child.c: the life of a container's first process, from clone(2) to execve(2), as the plan tells it. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"
#include "syscalls.h"

extern char **environ;

static int do_ready(struct rl_child *child)
{
	uint32_t type;

	if (rl_send(child->channel, RL_MSG_READY, NULL, 0, -1) < 0)
		return -1;
	if (rl_receive(child->channel, &type, NULL, 0, NULL) < 0 || type != RL_MSG_START)
		_exit(125); /* nobody wants us any more */
	return 0;
}

static int do_exec(struct rl_child *child)
{
	const struct rl_plan *plan = child->plan;
	int refused = ENOENT;

	/* Nothing of ours survives execve(2), whatever opened it. */
	if (rl_close_range(3, ~0U, RL_CLOSE_RANGE_CLOEXEC) < 0)
		for (int descriptor = 3; descriptor < 1024; descriptor++) /* before Linux 5.11; all of ours are low and have the flag already */
			(void)fcntl(descriptor, F_SETFD, FD_CLOEXEC);
	environ = plan->environment;
	for (char **path = plan->candidates; *path; path++) {
		execve(*path, plan->argv, plan->environment);
		if (errno == EACCES)
			refused = EACCES; /* as execvp(3): a later directory may hold one that may be executed */
		else if (errno != ENOENT && errno != ENOTDIR)
			return -1;
	}
	errno = refused;
	return -1;
}

static int perform(struct rl_child *child, const struct rl_op *op)
{
	const struct rl_plan *plan = child->plan;

	switch (op->kind) {
	case RL_OP_SETNS:
		return rl_do_setns(child, op);
	case RL_OP_HOSTNAME:
		return sethostname(rl_text(plan, op, 0), strlen(rl_text(plan, op, 0)));
	case RL_OP_DOMAINNAME:
		return setdomainname(rl_text(plan, op, 0), strlen(rl_text(plan, op, 0)));
	case RL_OP_PROPAGATION:
		return rl_do_propagation(child, op);
	case RL_OP_ROOT:
		return rl_do_root(child, op);
	case RL_OP_MKDIR:
		return rl_do_mkdir(child, op);
	case RL_OP_MOUNT:
		return rl_do_mount(child, op);
	case RL_OP_BIND:
		return rl_do_bind(child, op);
	case RL_OP_SYMLINK:
		return rl_do_symlink(child, op);
	case RL_OP_MASK:
		return rl_do_mask(child, op);
	case RL_OP_READONLY:
		return rl_do_readonly(child, op);
	case RL_OP_TERMINAL_NEW:
		return rl_do_terminal(child, op);
	case RL_OP_PIVOT:
		return rl_do_pivot(child, op);
	case RL_OP_SYSCTL:
		return rl_do_sysctl(child, op);
	case RL_OP_LOOPBACK:
		return rl_do_loopback(child, op);
	case RL_OP_RLIMIT:
		return rl_do_rlimit(child, op);
	case RL_OP_OOM_SCORE:
		return rl_do_oom_score(child, op);
	case RL_OP_UMASK:
		umask((mode_t)op->number[0]);
		return 0;
	case RL_OP_BOUNDING:
		return rl_do_bounding(child, op);
	case RL_OP_USER:
		return rl_do_user(child, op);
	case RL_OP_CAPS:
		return rl_do_caps(child, op);
	case RL_OP_NO_NEW_PRIVS:
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	case RL_OP_SECCOMP:
		return rl_do_seccomp(child, op);
	case RL_OP_CWD:
		return chdir(rl_text(plan, op, 0));
	case RL_OP_READY:
		return do_ready(child);
	case RL_OP_INIT:
		return rl_do_init(child, op);
	case RL_OP_EXEC:
		return do_exec(child);
	case RL_OP_DIE_WITH_PARENT: /* after the last change of ids, which clears it; prctl(2) */
		return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	case RL_OP_NETWORK: /* the monitor's part, which it does meanwhile */
		return 0;
	default:
		errno = ENOSYS;
		return -1;
	}
}

/* The caller's dispositions must not leak: SIGPIPE ignored by Python would stay ignored in the container. By the system call, because the C libraries keep
 * a few signals to themselves (32 to 34) and refuse to set them. */
static void reset_signals(void)
{
	static const uint64_t standard[8]; /* struct sigaction of the kernel, at its largest: all zero is SIG_DFL */
	sigset_t none;

	for (int signal = 1; signal <= 64; signal++)
		(void)syscall(SYS_rt_sigaction, signal, standard, NULL, 64 / 8); /* EINVAL for those that cannot be set */
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Close what the parent has open but for the streams and the channel, which becomes 3. Its directories are ways out of the container for a working
 * directory such as /proc/self/fd/7 (CVE-2024-21626), and for a process that may look into this one. */
static int keep_only(int channel)
{
	if (channel != 3 && (dup2(channel, 3) < 0 || fcntl(3, F_SETFD, FD_CLOEXEC) < 0))
		_exit(125);
	if (rl_close_range(4, ~0U, 0) < 0)
		for (int descriptor = 4; descriptor < 1024; descriptor++) /* forbidden by a seccomp filter; all of ours are low */
			close(descriptor);
	return 3;
}

int rl_child_run(const struct rl_plan *plan, int channel)
{
	channel = keep_only(channel);
	struct rl_child child = { .plan = plan, .channel = channel, .root = -1 };

	reset_signals();
	(void)setsid(); /* EPERM: already a leader */
	for (uint32_t index = 0; index < plan->header->op_count; index++) {
		const struct rl_op *op = &plan->ops[index];
		int failed = perform(&child, op) < 0;
		int error = errno;

		/* A symlink of the image where none may be is no refusal by the host, and nothing else is tried. */
		int fatal = !(op->flags & (RL_OP_OPTIONAL | RL_OP_ELSE)) || (error == ELOOP && op->flags & RL_OP_NO_SYMLINKS);

		if (failed && fatal) {
			rl_report(channel, RL_MSG_FAILED, RL_PHASE_CONTAINER, op->kind, index, error, NULL);
			return 125;
		}
		if (failed)
			rl_report(channel, RL_MSG_NOTE, RL_PHASE_CONTAINER, op->kind, index, error, NULL);
		if (!failed && op->flags & RL_OP_ELSE)
			index++; /* the alternative is not needed */
	}
	return 125;
}
