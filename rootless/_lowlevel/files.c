/* files.c: the modes that work on trees of files in a user namespace: unpack, pack, remove. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "child.h"
#include "modes.h"
#include "pack.h"
#include "report.h"
#include "tree.h"
#include "unpack.h"

enum { TAR = RL_FD_FIRST + 1 };

static int fail(uint32_t step, int error, const char *text)
{
	rl_report(RL_FD_CONTROL, RL_MSG_FAILED, RL_PHASE_SETUP, step, 0, error, text);
	return 1;
}

/* Enter the user namespace and open the directory argv[2]. Its descriptor, or -1 after saying why. */
static int begin(int argc, char **argv)
{
	const pid_t parent = getppid();

	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN); /* Ctrl-C reaches the whole foreground group; rl ends us, after what it wants to keep is kept */
	if (argc < 3 || setns(RL_FD_FIRST, CLONE_NEWUSER) < 0) {
		fail(RL_SETUP_USERNS, errno, NULL);
		return -1;
	}
	/* Nobody reads what we do once rl is gone. After setns(2): a gain of capabilities clears the setting (prctl(2)), if not for the owner of the
	 * namespace, whom the kernel counts as having them all. rl may have gone before. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != parent)
		return -1;
	int directory = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		fail(RL_SETUP_PLAN, errno, argv[2]);
	return directory;
}

int rl_mode_unpack(int argc, char **argv)
{
	struct rl_unpack_options options = { 0 };
	struct rl_unpack_result result;
	int directory = begin(argc, argv);

	if (directory < 0)
		return 1;
	for (int i = 3; i < argc; i++) {
		options.single_id |= strcmp(argv[i], "single") == 0;
		options.durable |= strcmp(argv[i], "durable") == 0;
		options.whiteout_files |= strcmp(argv[i], "whiteout-files") == 0;
	}
	if (rl_unpack(TAR, directory, &options, &result) < 0)
		return fail(result.class == RL_UNPACK_HOST ? RL_SETUP_UNPACK : RL_SETUP_ARCHIVE, result.error, result.text);
	struct rl_counts counts = {
		.entries = result.entries,
		.bytes = result.bytes,
		.skipped_devices = result.skipped_devices,
		.skipped_xattrs = result.skipped_xattrs,
		.opaque_root = result.opaque_root,
	};
	return rl_send(RL_FD_CONTROL, RL_MSG_COUNTS, &counts, sizeof counts, -1) < 0;
}

int rl_mode_pack(int argc, char **argv)
{
	struct rl_pack_result result;
	int directory = begin(argc, argv);

	if (directory < 0)
		return 1;
	/* Looked up here, not by rl: a FUSE file system shows nothing to those outside its user namespace. */
	if (argc > 3) {
		directory = rl_open_in_root(directory, argv[3], O_RDONLY | O_DIRECTORY);
		if (directory < 0)
			return fail(RL_SETUP_PACK, errno, argv[3]);
	}
	if (rl_pack(directory, TAR, &result) < 0)
		return fail(RL_SETUP_PACK, result.error, result.text);
	struct rl_counts counts = { .entries = result.entries, .bytes = result.bytes };
	return rl_send(RL_FD_CONTROL, RL_MSG_COUNTS, &counts, sizeof counts, -1) < 0;
}

int rl_mode_remove(int argc, char **argv)
{
	struct rl_tree_failure failure;
	struct rl_counts counts = { 0 };
	int directory = begin(argc, argv);

	if (directory < 0)
		return 1;
	if (argc < 4)
		return fail(RL_SETUP_PLAN, EINVAL, NULL);
	if (rl_remove_tree(directory, argv[3], &failure) < 0)
		return fail(RL_SETUP_REMOVE, failure.error, failure.text);
	return rl_send(RL_FD_CONTROL, RL_MSG_COUNTS, &counts, sizeof counts, -1) < 0;
}
