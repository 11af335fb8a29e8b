#define _GNU_SOURCE
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "core.h"
#include "syscalls.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static int close_keeping_errno(int descriptor)
{
	int saved = errno;

	close(descriptor);
	errno = saved;
	return -1;
}

/* A process that does nothing until the other end of its pipe closes, in a new user namespace or in `userns` where that is not -1. */
static int waiter(unsigned long flags, int userns, int *release)
{
	int gate[2], entered[2];
	char byte;

	if (pipe2(gate, O_CLOEXEC) < 0)
		return -1;
	if (pipe2(entered, O_CLOEXEC) < 0) {
		close(gate[0]);
		return close_keeping_errno(gate[1]);
	}
	int pid = (int)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		close(gate[1]);
		close(entered[0]);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (userns >= 0 && setns(userns, CLONE_NEWUSER) < 0)
			_exit(1);
		close(entered[1]);
		(void)!read(gate[0], &byte, 1);
		_exit(0);
	}
	int saved = errno;
	close(gate[0]);
	close(entered[1]);
	if (pid > 0)
		(void)!read(entered[0], &byte, 1);
	close(entered[0]);
	errno = saved;
	if (pid < 0)
		return close_keeping_errno(gate[1]);
	*release = gate[1];
	return pid;
}

int rl_userns_create(int *release)
{
	return waiter(CLONE_NEWUSER, -1, release);
}

int rl_userns_visit(int userns, int *release)
{
	return waiter(0, userns, release);
}

int rl_sealed_file(const char *name, const void *data, size_t size, int executable)
{
	/* MFD_EXEC is news of Linux 6.3; before, every memory file could be executed. */
	int file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (executable ? MFD_EXEC : 0));
	if (file < 0 && errno == EINVAL)
		file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (file < 0)
		return -1;
	for (size_t done = 0; done < size;) {
		ssize_t written = write(file, (const char *)data + done, size - done);
		if (written < 0)
			return close_keeping_errno(file);
		done += (size_t)written;
	}
	if (fcntl(file, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return close_keeping_errno(file);
	return file;
}

/* In the forked child: everything at its number, nothing else open, then the program. Returns only on failure. */
static void become(int program, char *const argv[], char *const environment[], const int *given, int count)
{
	int copies[16];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* First out of the way of the numbers that they shall have; not farther, for the limit of open files may be low. */
	program = fcntl(program, F_DUPFD_CLOEXEC, RL_FD_PLAN + count);
	if (program < 0)
		return;
	for (int i = 0; i < count; i++) {
		copies[i] = given[i] < 0 ? -1 : fcntl(given[i], F_DUPFD_CLOEXEC, RL_FD_PLAN + count);
		if (given[i] >= 0 && copies[i] < 0)
			return;
	}
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int stream = 0; stream < 3; stream++)
		if (dup2(null, stream) < 0)
			return;
	for (int i = 0; i < count; i++)
		if (copies[i] < 0)
			close(RL_FD_PLAN + i);
		else if (dup2(copies[i], RL_FD_PLAN + i) < 0)
			return;
	/* What has no number here does not go with it. The flag, not a close: `program` must live until the end. */
	if (rl_close_range((unsigned)(RL_FD_PLAN + count), ~0U, RL_CLOSE_RANGE_CLOEXEC) < 0)
		for (int descriptor = RL_FD_PLAN + count; descriptor < 1024; descriptor++)
			(void)fcntl(descriptor, F_SETFD, FD_CLOEXEC);
	syscall(SYS_execveat, program, "", argv, environment, AT_EMPTY_PATH);
}

int rl_spawn(int program, char *const argv[], char *const environment[], const int *given, int count)
{
	volatile int error = 0;

	if (count > 16) {
		errno = E2BIG;
		return -1;
	}
	/* vfork(2): the parent stands still until execve(2), the address space of Python is not copied, and the child can leave its errno behind. */
	pid_t pid = vfork();
	if (pid == 0) {
		become(program, argv, environment, given, count);
		error = errno;
		_exit(127);
	}
	if (pid < 0)
		return -1;
	if (error) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		errno = error;
		return -1;
	}
	return (int)pid;
}

int rl_open_beneath(int root, const char *path, int flags)
{
	return rl_open_in_root(root, path, (uint64_t)(unsigned)flags);
}

int rl_socketpair(int pair[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);
}

int rl_connect(int directory, const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (client < 0)
		return -1;
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name);
	if (connect(client, (struct sockaddr *)&address, sizeof address) < 0)
		return close_keeping_errno(client);
	return client;
}

int rl_enter_userns(int userns, int mount_namespace)
{
	if (setns(userns, CLONE_NEWUSER) < 0)
		return -1;
	if (!mount_namespace)
		return 0;
	if (unshare(CLONE_NEWNS) < 0)
		return -1;
	return mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL);
}
