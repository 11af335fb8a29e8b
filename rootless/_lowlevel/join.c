/* join.c: a further process in a running container (`rl exec`), and the trial of a plan, for the tests of single operations. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "modes.h"
#include "report.h"

#define EXIT_FAILED 125

static int fail(uint32_t step)
{
	rl_report(RL_FD_CONTROL, RL_MSG_FAILED, RL_PHASE_SETUP, step, 0, errno, NULL);
	return EXIT_FAILED;
}

/* Forward what the child says until it has executed its command (the channel closes) or failed. */
static int await_command(int channel)
{
	struct rl_failure failure;
	uint32_t type;
	int descriptor;
	ssize_t length;

	while ((length = rl_receive(channel, &type, &failure, sizeof failure, &descriptor)) >= 0) {
		(void)rl_send(RL_FD_CONTROL, type, &failure, (size_t)length, descriptor);
		if (descriptor >= 0)
			close(descriptor);
		if (type == RL_MSG_FAILED)
			return -1;
	}
	return 0;
}

static int32_t exit_code(int status)
{
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Pass on signals that rl asks for until the process ends. rl itself may go away meanwhile. */
static int32_t supervise(pid_t pid, int signals)
{
	struct pollfd polls[] = { { .fd = signals, .events = POLLIN }, { .fd = RL_FD_CONTROL, .events = POLLIN } };

	for (;;) {
		struct signalfd_siginfo info;
		int32_t number;
		uint32_t type;
		int status;

		if (poll(polls, 2, -1) < 0)
			continue;
		if (polls[1].revents) {
			ssize_t length = rl_receive(RL_FD_CONTROL, &type, &number, sizeof number, NULL);
			if (length < 0)
				polls[1].fd = -1;
			else if (type == RL_MSG_SIGNAL && length == sizeof number)
				(void)kill(pid, number);
		}
		if (polls[0].revents)
			while (read(signals, &info, sizeof info) == sizeof info)
				if (info.ssi_signo == SIGCHLD && waitpid(pid, &status, WNOHANG) == pid)
					return exit_code(status);
	}
}

int rl_mode_join(int argc, char **argv)
{
	const int streams[3] = { RL_FD_FIRST + 1, RL_FD_FIRST + 2, RL_FD_FIRST + 3 };
	struct rl_plan plan;
	struct rl_launched child;
	sigset_t handled;

	/* Before anything of the container can see this process: it must not be able to trace it or to open its descriptors (CVE-2016-9962). */
	if (argc < 3 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || rl_plan_open(&plan, RL_FD_PLAN) < 0)
		return fail(RL_SETUP_PLAN);
	(void)setsid();
	sigfillset(&handled);
	sigprocmask(SIG_SETMASK, &handled, NULL);
	int signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return fail(RL_SETUP_PLAN);
	/* One call, so that each namespace is entered with the capabilities that the user namespace gives; setns(2), Linux 5.8. */
	if (setns(RL_FD_FIRST, atoi(argv[2])) < 0)
		return fail(RL_SETUP_JOIN);
	close(RL_FD_FIRST);
	if (rl_launch(&plan, streams, &child) < 0)
		return fail(RL_SETUP_CLONE);
	for (int i = 0; i < 3; i++)
		close(streams[i]);
	if (await_command(child.channel) < 0) {
		while (waitpid(child.pid, NULL, 0) < 0 && errno == EINTR)
			;
		return EXIT_FAILED;
	}
	(void)rl_send(RL_FD_CONTROL, RL_MSG_STARTED, NULL, 0, -1);
	int32_t code = supervise(child.pid, signals);
	(void)rl_send(RL_FD_CONTROL, RL_MSG_EXITED, &code, sizeof code, -1);
	return 0;
}

int rl_mode_try(int argc, char **argv)
{
	struct rl_plan plan;
	struct rl_launched child;
	struct rl_failure failure;
	uint32_t type;

	(void)argc;
	(void)argv;
	if (rl_plan_open(&plan, RL_FD_PLAN) < 0)
		return fail(RL_SETUP_PLAN);
	if (setns(RL_FD_FIRST, CLONE_NEWUSER) < 0)
		return fail(RL_SETUP_USERNS);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return fail(RL_SETUP_MOUNTNS);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int streams[3] = { null, null, null };
	if (null < 0 || rl_launch(&plan, streams, &child) < 0)
		return fail(RL_SETUP_CLONE);
	for (;;) {
		ssize_t length = rl_receive(child.channel, &type, &failure, sizeof failure, NULL);
		if (length < 0) {
			errno = ECHILD;
			fail(RL_SETUP_CHILD);
			break;
		}
		(void)rl_send(RL_FD_CONTROL, type, &failure, (size_t)length, -1);
		if (type == RL_MSG_READY || type == RL_MSG_FAILED)
			break;
	}
	kill(child.pid, SIGKILL);
	while (waitpid(child.pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}
