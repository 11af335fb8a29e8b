#define _GNU_SOURCE
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "syscalls.h"

extern char **environ;

/* Move `source` to `target` and let it survive execve(2). */
static int place(int source, int target)
{
	if (source == target)
		return fcntl(target, F_SETFD, 0);
	return dup2(source, target);
}

/* The raw system call, as fork(2) with flags: clone(3) of the C library wants a stack, and clone3(2) is answered ENOSYS by the seccomp policies of the
 * containers that we may be nested in. */
static pid_t clone_process(unsigned long flags)
{
	return (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
}

/* As clone_process, in the pid namespace at `path`. setns(2) moves only the children of its caller into a pid namespace, and all of them: so one process
 * in between enters it, and has the child on our behalf (CLONE_PARENT). */
static pid_t clone_into(const char *path, unsigned long flags)
{
	int news[2], status;
	pid_t pid = -1;

	if (pipe2(news, O_CLOEXEC) < 0)
		return -1;
	pid_t between = clone_process(0);
	if (between == 0) {
		int namespace = open(path, O_RDONLY | O_CLOEXEC);
		if (namespace >= 0 && setns(namespace, CLONE_NEWPID) == 0) {
			pid = clone_process(flags | CLONE_PARENT);
			if (pid == 0)
				return 0;
		}
		int answer[2] = { (int)pid, errno };
		(void)!write(news[1], answer, sizeof answer);
		_exit(0);
	}
	int answer[2] = { -1, errno };
	close(news[1]);
	if (between > 0) {
		if (read(news[0], answer, sizeof answer) != (ssize_t)sizeof answer)
			answer[1] = ECHILD;
		while (waitpid(between, &status, 0) < 0 && errno == EINTR)
			;
	}
	close(news[0]);
	errno = answer[1];
	return answer[0];
}

static const char *joined_pid_namespace(const struct rl_plan *plan)
{
	for (uint32_t n = 0; n < plan->header->op_count; n++)
		if (plan->ops[n].kind == RL_OP_SETNS && plan->ops[n].number[0] == CLONE_NEWPID)
			return rl_text(plan, &plan->ops[n], 0);
	return NULL;
}

int rl_launch(const struct rl_plan *plan, const int streams[3], struct rl_launched *launched)
{
	const char *pid_namespace = joined_pid_namespace(plan);
	int channel[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
		return -1;
	pid_t pid = pid_namespace ? clone_into(pid_namespace, plan->header->clone_flags) : clone_process(plan->header->clone_flags);
	if (pid < 0) {
		int saved = errno;
		close(channel[0]);
		close(channel[1]);
		errno = saved;
		return -1;
	}
	if (pid == 0) {
		for (int i = 0; i < 3; i++)
			if (place(streams[i], i) < 0)
				_exit(125);
		_exit(rl_child_run(plan, channel[1]));
	}
	close(channel[1]);
	launched->pid = pid;
	launched->channel = channel[0];
	return 0;
}

pid_t rl_start_helper(char *const argv[], int directory, const int *extra, int *diagnostics)
{
	struct rlimit files;
	int errors[2];

	/* Not blocking: slirp4netns writes a line for every port, and nobody reads once it is ready; a full pipe would stop it for good. */
	if (pipe2(errors, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		sigset_t none;
		int safe[8], count = 0;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (directory >= 0 && fchdir(directory) < 0)
			_exit(125);
		/* First out of the way of the numbers that they shall have (not farther: the limit of open files may be low), then there. */
		const int above = RL_FD_FIRST + (int)(sizeof safe / sizeof *safe);
		int stderr_copy = fcntl(errors[1], F_DUPFD_CLOEXEC, above);
		for (; extra && count < above - RL_FD_FIRST && extra[count] >= 0; count++)
			safe[count] = fcntl(extra[count], F_DUPFD_CLOEXEC, above);
		for (int i = 0; i < count; i++)
			if (place(safe[i], RL_FD_FIRST + i) < 0)
				_exit(125);
		int null = open("/dev/null", O_RDWR);
		if (null < 0 || place(null, 0) < 0 || place(null, 1) < 0 || place(stderr_copy, 2) < 0)
			_exit(125);
		/* A published port, an open file of a FUSE file system: each takes a descriptor there. */
		if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
			files.rlim_cur = files.rlim_max;
			(void)setrlimit(RLIMIT_NOFILE, &files);
		}
		execvp(argv[0], argv);
		dprintf(2, "cannot execute %s: %s", argv[0], strerror(errno));
		_exit(127);
	}
	int saved = errno;
	close(errors[1]);
	if (pid < 0) {
		close(errors[0]);
		errno = saved;
		return -1;
	}
	*diagnostics = errors[0];
	return pid;
}

void rl_read_diagnostics(int diagnostics, char *text, size_t size)
{
	size_t length = 0;
	struct pollfd ready = { .fd = diagnostics, .events = POLLIN };

	while (length + 1 < size && poll(&ready, 1, 100) > 0) {
		ssize_t got = read(diagnostics, text + length, size - 1 - length);
		if (got <= 0)
			break;
		length += (size_t)got;
	}
	while (length && (text[length - 1] == '\n' || text[length - 1] == ' '))
		length--;
	text[length] = 0;
	for (size_t i = 0; i < length; i++)
		if (text[i] == '\n')
			text[i] = ';';
}

uint64_t rl_start_time(pid_t pid)
{
	char path[40], text[1024];

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return 0;
	ssize_t length = read(file, text, sizeof text - 1);
	close(file);
	if (length <= 0)
		return 0;
	text[length] = 0;
	/* The second field, the program's name, may hold spaces and parentheses: count from its last one. */
	const char *field = strrchr(text, ')');
	for (int n = 2; field && n < 22; n++)
		field = strchr(field + 1, ' ');
	return field ? strtoull(field + 1, NULL, 10) : 0;
}
