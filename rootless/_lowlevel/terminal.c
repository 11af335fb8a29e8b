/* terminal.c: the container's pseudo-terminal, made from its own devpts so that ttyname(3) is true inside. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "report.h"
#include "syscalls.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/* Bind the slave to /dev/console, as the OCI runtime specification asks for where there is a terminal. */
static int mount_console(struct rl_child *child, int slave, const char *console)
{
	/* What is there already is only a place to mount on: a pipe that was opened would wait for its reader. */
	int file = rl_open_in_root(child->root, console, O_PATH | O_NOFOLLOW);

	if (file < 0 && errno == ENOENT)
		file = rl_open_in_root(child->root, console, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW);
	if (file < 0)
		return -1;
	int tree = rl_open_tree(slave, "", AT_EMPTY_PATH | RL_OPEN_TREE_CLONE | RL_OPEN_TREE_CLOEXEC);
	int moved = tree < 0 ? -1 : rl_move_mount(tree, "", file, "", RL_MOVE_MOUNT_F_EMPTY_PATH | RL_MOVE_MOUNT_T_EMPTY_PATH);
	int saved = errno;
	close(file);
	if (tree >= 0)
		close(tree);
	errno = saved;
	return moved;
}

int rl_do_terminal(struct rl_child *child, const struct rl_op *op)
{
	const char *console = rl_text(child->plan, op, 0);
	struct winsize size = { .ws_row = (unsigned short)op->number[0], .ws_col = (unsigned short)op->number[1] };
	int unlocked = 0;

	/* In a running container (exec) there is no root descriptor: the process is inside already. */
	int master = child->root >= 0 ? rl_open_in_root(child->root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY)
				      : open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0)
		return -1;
	/* TIOCGPTPEER opens the slave by the master, not by a name that the container could have replaced. */
	if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
		return -1;
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -1;
	if (size.ws_row && size.ws_col)
		(void)ioctl(master, TIOCSWINSZ, &size); /* a size is a courtesy: the client resizes as soon as it attaches */
	if (console && mount_console(child, slave, console) < 0)
		return -1;
	if (rl_send(child->channel, RL_MSG_TERMINAL, NULL, 0, master) < 0)
		return -1;
	close(master);
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return -1;
	for (int stream = 0; stream < 3; stream++)
		if (dup2(slave, stream) < 0)
			return -1;
	close(slave);
	return 0;
}
