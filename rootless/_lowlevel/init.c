/* init.c: `--init`. Process 1 of the container stays in this program (a sealed memory file), passes signals on and reaps. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "syscalls.h"

extern char **environ;

/* Wait for signals for ever: hand them to the command, reap what is orphaned, leave with the command's status. */
static _Noreturn void reap(pid_t command)
{
	sigset_t all;
	siginfo_t info;

	sigfillset(&all);
	for (;;) {
		int signal = sigwaitinfo(&all, &info);
		if (signal < 0)
			continue;
		if (signal != SIGCHLD) {
			/* What the terminal sent went to the whole foreground group already. */
			if (info.si_code != SI_KERNEL)
				(void)kill(command, signal);
			continue;
		}
		int status;
		pid_t pid;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == command && (WIFEXITED(status) || WIFSIGNALED(status)))
				_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
}

int rl_do_init(struct rl_child *child, const struct rl_op *op)
{
	sigset_t all, none;

	(void)op;
	sigfillset(&all);
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return -1;
	/* Not fork(3), which would run handlers and take locks of a library that this process does not otherwise use. */
	pid_t command = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (command < 0)
		return -1;
	if (command > 0) {
		/* Not the monitor's name, nor its environment, which speaks of the host: the container can read both. */
		(void)prctl(PR_SET_NAME, "rl-init", 0, 0, 0);
		for (char **variable = environ; *variable; variable++)
			memset(*variable, 0, strlen(*variable));
		/* Keep nothing open: the parent takes the closing of the channel as the news that execve(2) succeeded. */
		(void)rl_close_range(0, ~0U, 0);
		reap(command);
	}
	/* A group of its own, in the foreground where there is a terminal, so that job control works inside. */
	(void)setpgid(0, 0);
	if (isatty(0))
		(void)tcsetpgrp(0, getpid());
	(void)child;
	return sigprocmask(SIG_SETMASK, &none, NULL);
}
