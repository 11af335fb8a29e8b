/* monitor.c: the one process that belongs to a running container besides its own.
 *
 * In the order of rl_mode_monitor: it enters the user namespace, mounts the root file system in a mount namespace of its own, is told the plan, clones the
 * container's process and the network's, passes streams until the process ends, records how, cleans up and is gone. rl may leave or be killed
 * at any time after START; before, its death ends the attempt.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "launch.h"
#include "modes.h"
#include "report.h"
#include "state.h"
#include "streams.h"
#include "syscalls.h"
#include "tree.h"

#define EXIT_FAILED 125
#define FUSE_SUPER_MAGIC 0x65735546
#define MAX_DIRECTORIES 502 /* of an overlay: the kernel stacks 500 layers at the most (OVL_MAX_STACK); with upper and work */

struct monitor {
	int control, signals, listener;
	struct rl_plan host, container;
	const struct rl_op *settings, *removal;
	struct rl_state state;
	struct rl_launched child;
	bool exited;
	int status; /* as waitpid(2) gave it */
	pid_t network;
	int network_ready, network_exit, network_errors; /* pipes; -1: none */
	struct rl_streams streams;
};

static int fail(const struct monitor *monitor, uint32_t step, const char *text)
{
	rl_report(monitor->control, RL_MSG_FAILED, RL_PHASE_SETUP, step, 0, errno, text);
	return -1;
}

/* ---- the user and mount namespaces, and what is mounted in them */

static int enter_namespaces(struct monitor *monitor, int userns)
{
	if (setns(userns, CLONE_NEWUSER) < 0)
		return fail(monitor, RL_SETUP_USERNS, NULL);
	close(userns);
	/* Slave: mounts that the host makes later (removable disks, automounts) still arrive; nothing of ours travels back. */
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return fail(monitor, RL_SETUP_MOUNTNS, NULL);
	return 0;
}

/* The lower directories go to the kernel as descriptors: paths of many layers would not fit in the page that mount(2) takes, and their colons and commas
 * would need escaping. */
static int mount_overlay(const struct rl_plan *plan, const struct rl_op *op)
{
	const char *options = rl_text(plan, op, 1);
	uint32_t total = op->count[3], count = 0;
	int opened[MAX_DIRECTORIES];
	int result = -1;

	if (total < 3 || total > MAX_DIRECTORIES) {
		errno = E2BIG;
		return -1;
	}
	size_t room = strlen(options) + 64 + 32 * (size_t)total;
	char **directories = rl_list(plan, op, 3);
	char *data = malloc(room);
	if (!directories || !data)
		goto out;
	size_t used = (size_t)snprintf(data, room, "%s", options);
	for (; count < total; count++) {
		const char *before = count == 0 ? ",lowerdir=" : count == total - 2 ? ",upperdir=" : count == total - 1 ? ",workdir=" : ":";
		opened[count] = open(directories[count], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (opened[count] < 0)
			goto out;
		used += (size_t)snprintf(data + used, room - used, "%s/proc/self/fd/%d", before, opened[count]);
	}
	result = mount("overlay", rl_text(plan, op, 0), "overlay", 0, data);
out:;
	int saved = errno;
	while (count)
		close(opened[--count]);
	free(data);
	free(directories);
	errno = saved;
	return result;
}

/* Wait for a helper: until it has left with 0, or (`target`) until a FUSE file system has appeared there while it runs. 0, or -1 once it has failed. */
static int await_mount(pid_t pid, const char *target)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	int status;

	for (;;) {
		struct statfs found;
		pid_t ended = waitpid(pid, &status, target ? WNOHANG : 0);
		if (ended < 0 && errno == EINTR)
			continue;
		if (ended != 0) {
			int left = ended == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
			errno = left == 127 ? ENOENT : EIO;
			return left == 0 && !target ? 0 : -1;
		}
		if (target && statfs(target, &found) == 0 && found.f_type == FUSE_SUPER_MAGIC)
			return 0;
		nanosleep(&pause, NULL);
	}
}

/* Have a program mount the root. What it said when it failed is in `text`. */
static int run_helper(const struct rl_plan *plan, const struct rl_op *op, char *text, size_t size)
{
	char **argv = rl_list(plan, op, 0);
	int diagnostics;

	if (!argv)
		return -1;
	pid_t pid = rl_start_helper(argv, -1, NULL, &diagnostics);
	free(argv);
	if (pid < 0)
		return -1;
	if (await_mount(pid, op->number[0] ? rl_text(plan, op, 1) : NULL) == 0)
		return 0; /* `diagnostics` stays open for the server: a write to a closed pipe would kill it */
	int saved = errno;
	rl_read_diagnostics(diagnostics, text, size);
	close(diagnostics);
	errno = saved;
	return -1;
}

static int make_like(const char *pattern, const char *target)
{
	struct stat status;

	if (stat(pattern, &status) < 0 || chown(target, status.st_uid, status.st_gid) < 0)
		return -1;
	return chmod(target, status.st_mode & 07777);
}

static int prepare_host(struct monitor *monitor)
{
	const struct rl_plan *plan = &monitor->host;

	for (uint32_t index = 0; index < plan->header->op_count; index++) {
		const struct rl_op *op = &plan->ops[index];
		char text[200] = "";
		int result = 0;

		if (op->kind == RL_OP_OVERLAY)
			result = mount_overlay(plan, op);
		else if (op->kind == RL_OP_HELPER)
			result = run_helper(plan, op, text, sizeof text);
		else if (op->kind == RL_OP_LIKE)
			result = make_like(rl_text(plan, op, 0), rl_text(plan, op, 1));
		if (result < 0) {
			rl_report(monitor->control, RL_MSG_FAILED, RL_PHASE_HOST, op->kind, index, errno, text);
			return -1;
		}
	}
	return 0;
}

/* Hand out the root and get the plan for what runs in it. */
static int receive_plan(struct monitor *monitor, const char *rootfs)
{
	uint32_t type;
	int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC), plan = -1;

	if (root < 0 || rl_send(monitor->control, RL_MSG_ROOTFS, NULL, 0, root) < 0)
		return fail(monitor, RL_SETUP_PLAN, rootfs);
	close(root);
	if (rl_receive(monitor->control, &type, NULL, 0, &plan) < 0 || type != RL_MSG_PLAN || plan < 0)
		return -1; /* rl gave up */
	int opened = rl_plan_open(&monitor->container, plan);
	close(plan);
	return opened < 0 ? fail(monitor, RL_SETUP_PLAN, NULL) : 0;
}

/* ---- the process and its network */

static int open_listener(struct monitor *monitor)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	monitor->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (monitor->listener < 0)
		return fail(monitor, RL_SETUP_SOCKET, NULL);
	/* By the directory's descriptor: a socket's name has room for 107 bytes, a runtime directory may need more. */
	snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/monitor.sock", monitor->state.runtime);
	mode_t old = umask(0177);
	int bound = bind(monitor->listener, (struct sockaddr *)&address, sizeof address);
	umask(old);
	if (bound < 0 || listen(monitor->listener, RL_MAX_CLIENTS) < 0)
		return fail(monitor, RL_SETUP_SOCKET, NULL);
	return 0;
}

/* Make the pipes of a container without a terminal; `child_ends` become its 0, 1 and 2. */
static int make_streams(struct monitor *monitor, int child_ends[3])
{
	struct rl_source *sources = monitor->streams.sources;
	bool wanted[3] = { monitor->settings->flags & RL_OP_STDIN, true, true };

	for (int i = 0; i < 3; i++) {
		int ends[2];

		if (monitor->streams.terminal || !wanted[i]) {
			child_ends[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
			if (child_ends[i] < 0)
				return fail(monitor, RL_SETUP_PIPES, NULL);
			continue;
		}
		if (pipe2(ends, O_CLOEXEC) < 0)
			return fail(monitor, RL_SETUP_PIPES, NULL);
		child_ends[i] = ends[i == 0 ? 0 : 1];
		sources[i].file = ends[i == 0 ? 1 : 0];
		if (fcntl(sources[i].file, F_SETFL, O_NONBLOCK) < 0)
			return fail(monitor, RL_SETUP_PIPES, NULL);
	}
	return 0;
}

static int start_network(struct monitor *monitor, const struct rl_op *op)
{
	char path[40];
	int ready[2], stay[2];
	char **argv = rl_list(&monitor->container, op, 0);

	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)monitor->child.pid);
	int netns = open(path, O_RDONLY | O_CLOEXEC);
	if (!argv || netns < 0 || pipe2(ready, O_CLOEXEC) < 0 || pipe2(stay, O_CLOEXEC) < 0)
		return -1;
	const int given[] = { netns, ready[1], stay[0], -1 };
	monitor->network = rl_start_helper(argv, monitor->state.runtime, given, &monitor->network_errors);
	free(argv);
	close(netns);
	close(ready[1]);
	close(stay[0]);
	monitor->network_ready = ready[0];
	monitor->network_exit = stay[1];
	return monitor->network < 0 ? -1 : 0;
}

/* True when the child is ready to go on; forwards what it notes. False when it failed, after saying so. */
static int hear_child(struct monitor *monitor, bool *ready)
{
	struct rl_failure failure;
	uint32_t type;
	int descriptor;
	ssize_t length = rl_receive(monitor->child.channel, &type, &failure, sizeof failure, &descriptor);

	if (length < 0) {
		errno = ECHILD;
		return fail(monitor, RL_SETUP_CHILD, NULL);
	}
	if (type == RL_MSG_READY) {
		*ready = true;
	} else if (type == RL_MSG_TERMINAL && descriptor >= 0) {
		struct rl_source *sources = monitor->streams.sources;
		sources[RL_STREAM_STDOUT].file = descriptor;
		sources[RL_STREAM_STDIN].file = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
		if (fcntl(descriptor, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
			return fail(monitor, RL_SETUP_PIPES, NULL);
	} else if (length == sizeof failure) {
		(void)rl_send(monitor->control, type, &failure, sizeof failure, -1);
		return type == RL_MSG_NOTE ? 0 : -1;
	}
	return 0;
}

static int hear_network(struct monitor *monitor, bool *ready)
{
	char byte, text[200] = "";

	if (read(monitor->network_ready, &byte, 1) == 1) {
		*ready = true;
		close(monitor->network_ready);
		monitor->network_ready = -1;
		return 0;
	}
	rl_read_diagnostics(monitor->network_errors, text, sizeof text);
	rl_report(monitor->control, RL_MSG_FAILED, RL_PHASE_CONTAINER, RL_OP_NETWORK, 0, EIO, text);
	return -1;
}

/* The child mounts and the network attaches, side by side. */
static int await_ready(struct monitor *monitor)
{
	bool child_ready = false, network_ready = monitor->network == 0;

	while (!child_ready || !network_ready) {
		struct pollfd polls[] = {
			{ .fd = child_ready ? -1 : monitor->child.channel, .events = POLLIN },
			{ .fd = network_ready ? -1 : monitor->network_ready, .events = POLLIN },
			{ .fd = monitor->control, .events = POLLIN },
		};
		if (poll(polls, 3, -1) < 0 && errno != EINTR)
			return fail(monitor, RL_SETUP_CHILD, NULL);
		if (polls[0].revents && hear_child(monitor, &child_ready) < 0)
			return -1;
		if (polls[1].revents && hear_network(monitor, &network_ready) < 0)
			return -1;
		if (polls[2].revents & POLLHUP)
			return -1;
	}
	return 0;
}

static int start(struct monitor *monitor)
{
	const struct rl_op *network = rl_find(&monitor->container, RL_OP_NETWORK);
	int ends[3];

	if (make_streams(monitor, ends) < 0)
		return -1;
	if (rl_launch(&monitor->container, ends, &monitor->child) < 0)
		return fail(monitor, RL_SETUP_CLONE, NULL);
	for (int i = 0; i < 3; i++)
		close(ends[i]);
	monitor->streams.process = monitor->child.pid;
	if (network && start_network(monitor, network) < 0) {
		rl_report(monitor->control, RL_MSG_FAILED, RL_PHASE_CONTAINER, RL_OP_NETWORK, 0, errno, NULL);
		return -1;
	}
	if (await_ready(monitor) < 0)
		return -1;
	monitor->state.pid = monitor->child.pid;
	monitor->state.start_time = rl_start_time(monitor->child.pid);
	struct rl_process process = { .pid = monitor->child.pid, .start_time = monitor->state.start_time };
	if (rl_write_state(&monitor->state) < 0)
		return fail(monitor, RL_SETUP_STATE, NULL);
	if (rl_send(monitor->control, RL_MSG_READY, &process, sizeof process, -1) < 0)
		return -1;

	uint32_t type;
	if (rl_receive(monitor->control, &type, NULL, 0, NULL) < 0 || type != RL_MSG_START)
		return -1; /* rl gave up */
	if (rl_send(monitor->child.channel, RL_MSG_START, NULL, 0, -1) < 0)
		return fail(monitor, RL_SETUP_CHILD, NULL);
	/* Silence and the end of the channel: execve(2) has closed it. */
	struct rl_failure failure;
	ssize_t length;
	while ((length = rl_receive(monitor->child.channel, &type, &failure, sizeof failure, NULL)) >= 0) {
		(void)rl_send(monitor->control, type, &failure, (size_t)length, -1);
		if (type == RL_MSG_FAILED)
			return -1;
	}
	close(monitor->child.channel);
	rl_now(monitor->state.started, sizeof monitor->state.started);
	if (rl_write_started(&monitor->state) < 0 || rl_write_state(&monitor->state) < 0)
		return fail(monitor, RL_SETUP_STATE, NULL);
	(void)rl_send(monitor->control, RL_MSG_STARTED, NULL, 0, -1);
	return 0;
}

/* ---- while it runs */

static void handle_signals(struct monitor *monitor)
{
	struct signalfd_siginfo info;

	while (read(monitor->signals, &info, sizeof info) == sizeof info) {
		int status;
		pid_t pid;

		if (info.ssi_signo == SIGTERM && !monitor->exited)
			(void)kill(monitor->child.pid, SIGTERM); /* somebody stops us: a batch system, a log-out */
		if (info.ssi_signo != SIGCHLD)
			continue;
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == monitor->child.pid) {
				monitor->exited = true;
				monitor->status = status;
			}
	}
}

static void accept_client(struct monitor *monitor)
{
	int client = accept4(monitor->listener, NULL, NULL, SOCK_CLOEXEC);

	if (client >= 0)
		rl_streams_add(&monitor->streams, client, 0);
}

/* Pass streams and messages until the process has ended; with `ended`, until what it said has been delivered. */
static void serve(struct monitor *monitor, bool ended)
{
	struct pollfd polls[RL_MAX_CLIENTS + 5];

	while (ended ? !rl_streams_drain(&monitor->streams) : !monitor->exited) {
		size_t count = rl_streams_poll(&monitor->streams, polls);
		polls[count] = (struct pollfd){ .fd = monitor->signals, .events = POLLIN };
		polls[count + 1] = (struct pollfd){ .fd = monitor->listener, .events = POLLIN };
		if (poll(polls, count + 2, -1) < 0)
			continue;
		rl_streams_serve(&monitor->streams, polls, count);
		if (polls[count].revents)
			handle_signals(monitor);
		if (polls[count + 1].revents)
			accept_client(monitor);
	}
}

/* ---- its end */

/* Take the container away from everybody's eyes, and free its name. Renamed first, so that nobody ever sees half a container. */
static bool hide_container(const struct monitor *monitor)
{
	const char *directory = rl_text(&monitor->host, monitor->removal, 0);
	const char *grave = rl_text(&monitor->host, monitor->removal, 1);
	const char *name = rl_text(&monitor->host, monitor->removal, 2);
	char target[512];

	if (rename(directory, grave) < 0)
		return false; /* `rl rm` was faster */
	ssize_t length = name ? readlink(name, target, sizeof target - 1) : -1;
	if (length > 0) {
		target[length] = 0;
		const char *id = strrchr(directory, '/'), *holder = strrchr(target, '/');
		if (id && holder && strcmp(id, holder) == 0)
			unlink(name);
	}
	return true;
}

static void remove_tree(const char *path)
{
	const char *base = strrchr(path, '/');
	char parent[4096];

	if (!base || (size_t)(base - path) >= sizeof parent)
		return;
	memcpy(parent, path, (size_t)(base - path));
	parent[base - path] = 0;
	int above = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (above < 0)
		return;
	(void)rl_remove_tree(above, base + 1, NULL);
	close(above);
}

/* What is left of the container itself lies in tmp/, and the next sweep finds it. */
static void bury_container(const struct monitor *monitor)
{
	char **volumes = rl_list(&monitor->host, monitor->removal, 3);

	remove_tree(rl_text(&monitor->host, monitor->removal, 1));
	for (char **volume = volumes; volume && *volume; volume++)
		remove_tree(*volume);
	free(volumes);
}

/* Wait for the server of a FUSE root, which ends with its mount: it would be seen working in directories that are about to go. */
static void await_helper(const struct monitor *monitor)
{
	struct pollfd ended = { .fd = monitor->signals, .events = POLLIN };
	struct signalfd_siginfo info;

	for (int tries = 0; tries < 20; tries++) {
		pid_t pid;
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			continue;
		if (pid < 0) /* ECHILD */
			return;
		if (poll(&ended, 1, 100) > 0)
			while (read(monitor->signals, &info, sizeof info) == sizeof info)
				continue;
	}
}

static void end_helpers(struct monitor *monitor)
{
	char rootfs[4096];

	if (monitor->network_exit >= 0)
		close(monitor->network_exit); /* slirp4netns leaves when this closes */
	monitor->network_exit = -1;
	snprintf(rootfs, sizeof rootfs, "%s/rootfs", rl_text(&monitor->host, monitor->settings, 0));
	(void)umount2(rootfs, MNT_DETACH); /* EINVAL: never mounted */
	if (rl_find(&monitor->host, RL_OP_HELPER))
		await_helper(monitor);
}

/* Let go of everything that has a name, so that the container can be started again, or removed, while its last words are still being read. */
static void let_go(struct monitor *monitor)
{
	if (monitor->state.runtime >= 0)
		unlinkat(monitor->state.runtime, "state.json", 0); /* it does not run any more; all else is tidiness */
	if (monitor->listener >= 0)
		close(monitor->listener);
	monitor->listener = -1;
	if (monitor->state.runtime < 0)
		return;
	unlinkat(monitor->state.runtime, "monitor.sock", 0);
	unlinkat(monitor->state.runtime, "slirp.sock", 0);
	(void)rmdir(rl_text(&monitor->host, monitor->settings, 1));
}

static int end(struct monitor *monitor)
{
	int signal = WIFSIGNALED(monitor->status) ? WTERMSIG(monitor->status) : 0;
	int32_t code = signal ? 128 + signal : WEXITSTATUS(monitor->status);
	bool hidden = false;

	/* The record first: from here on the container has ended, whoever still reads its last words. */
	if (!monitor->removal)
		(void)rl_write_exit(&monitor->state, code, signal, monitor->streams.log.error);
	end_helpers(monitor);
	if (monitor->removal)
		hidden = hide_container(monitor);
	let_go(monitor);
	rl_streams_tell(&monitor->streams, code, false);
	serve(monitor, true);
	rl_streams_tell(&monitor->streams, code, true);
	if (hidden)
		bury_container(monitor);
	return 0;
}

static int abandon(struct monitor *monitor)
{
	if (monitor->child.pid > 0) {
		kill(monitor->child.pid, SIGKILL);
		while (waitpid(monitor->child.pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	end_helpers(monitor);
	let_go(monitor);
	/* Nothing else of it is needed any more, and what has failed may be the limit of open files. */
	(void)rl_close_range(RL_FD_FIRST, ~0U, 0);
	if (monitor->removal && hide_container(monitor))
		bury_container(monitor);
	return EXIT_FAILED;
}

static int block_signals(void)
{
	sigset_t handled;

	sigemptyset(&handled);
	sigaddset(&handled, SIGCHLD);
	sigaddset(&handled, SIGTERM);
	sigaddset(&handled, SIGINT);
	sigaddset(&handled, SIGHUP);
	sigaddset(&handled, SIGPIPE);
	if (sigprocmask(SIG_SETMASK, &handled, NULL) < 0)
		return -1;
	return signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int open_files(struct monitor *monitor)
{
	const struct rl_plan *plan = &monitor->host;
	const struct rl_op *settings = monitor->settings;

	monitor->state.directory = open(rl_text(plan, settings, 0), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	monitor->state.runtime = open(rl_text(plan, settings, 1), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (monitor->state.directory < 0 || monitor->state.runtime < 0 || rl_write_state(&monitor->state) < 0)
		return fail(monitor, RL_SETUP_STATE, NULL);
	if (rl_log_open(&monitor->streams.log, rl_text(plan, settings, 2)) < 0)
		return fail(monitor, RL_SETUP_LOG, NULL);
	return open_listener(monitor);
}

int rl_mode_monitor(int argc, char **argv)
{
	static struct monitor monitor = { .control = RL_FD_CONTROL, .listener = -1, .network_ready = -1, .network_exit = -1, .network_errors = -1 };
	char rootfs[4096];

	(void)argc;
	(void)argv;
	monitor.state.runtime = monitor.state.directory = -1;
	rl_streams_init(&monitor.streams);
	(void)setsid();
	(void)prctl(PR_SET_NAME, "rl-monitor", 0, 0, 0);
	/* Ours alone: a helper that held the control socket would keep rl waiting after we were killed. */
	if (fcntl(RL_FD_PLAN, F_SETFD, FD_CLOEXEC) < 0 || fcntl(RL_FD_CONTROL, F_SETFD, FD_CLOEXEC) < 0)
		return EXIT_FAILED;
	if (chdir("/") < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return EXIT_FAILED;
	monitor.signals = block_signals();
	if (monitor.signals < 0 || rl_plan_open(&monitor.host, RL_FD_PLAN) < 0)
		return fail(&monitor, RL_SETUP_PLAN, NULL), EXIT_FAILED;
	monitor.settings = rl_find(&monitor.host, RL_OP_MONITOR);
	monitor.removal = rl_find(&monitor.host, RL_OP_REMOVE);
	if (!monitor.settings) {
		errno = EINVAL;
		return fail(&monitor, RL_SETUP_PLAN, NULL), EXIT_FAILED;
	}
	monitor.streams.terminal = monitor.settings->flags & RL_OP_TERMINAL;
	snprintf(rootfs, sizeof rootfs, "%s/rootfs", rl_text(&monitor.host, monitor.settings, 0));

	if (enter_namespaces(&monitor, RL_FD_FIRST) < 0 || open_files(&monitor) < 0 || prepare_host(&monitor) < 0 ||
	    receive_plan(&monitor, rootfs) < 0 || start(&monitor) < 0)
		return abandon(&monitor);
	/* The control socket goes on as an ordinary client: rl sends what it wants to see before it starts the container. */
	rl_streams_add(&monitor.streams, monitor.control, 1u << RL_STREAM_STDIN | 1u << RL_STREAM_STDOUT | 1u << RL_STREAM_STDERR);
	serve(&monitor, false);
	return end(&monitor);
}
