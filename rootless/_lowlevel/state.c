#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"
#include "log.h"

/* Write a whole document beside its name, then rename it there: readers see the old one or the new one. */
static int replace(int directory, const char *name, int durable, const char *format, ...)
{
	char temporary[32], text[512];
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	snprintf(temporary, sizeof temporary, "%s.tmp", name);
	int file = openat(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0)
		return -1;
	int failed = write(file, text, (size_t)length) != length || (durable && fsync(file) < 0);
	int saved = errno;
	close(file);
	if (failed) {
		unlinkat(directory, temporary, 0);
		errno = saved ? saved : ENOSPC;
		return -1;
	}
	if (renameat(directory, temporary, directory, name) < 0)
		return -1;
	return durable ? fsync(directory) : 0;
}

/* Process numbers and start times repeat after a reboot, and a runtime directory is not always on a tmpfs. */
static void boot_id(char *text, size_t size)
{
	int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? 0 : read(file, text, size - 1);

	if (file >= 0)
		close(file);
	text[length > 0 ? length : 0] = 0;
	text[strcspn(text, "\n")] = 0;
}

int rl_write_state(const struct rl_state *state)
{
	char boot[48];

	boot_id(boot, sizeof boot);
	return replace(state->runtime, "state.json", 0,
		       "{\"monitorPid\":%d,\"monitorStartTime\":%llu,\"pid\":%d,\"startTime\":%llu,\"startedAt\":\"%s\",\"bootId\":\"%s\"}\n", (int)getpid(),
		       (unsigned long long)rl_start_time(getpid()), (int)state->pid, (unsigned long long)state->start_time, state->started, boot);
}

int rl_write_started(const struct rl_state *state)
{
	if (replace(state->directory, "started.json", 0, "{\"startedAt\":\"%s\"}\n", state->started) < 0)
		return -1;
	return unlinkat(state->directory, "exit.json", 0) < 0 && errno != ENOENT ? -1 : 0;
}

int rl_write_exit(const struct rl_state *state, int32_t code, int signal, int log_error)
{
	char finished[36];

	rl_now(finished, sizeof finished);
	return replace(state->directory, "exit.json", 1,
		       "{\"exitCode\":%d,\"signal\":%d,\"startedAt\":\"%s\",\"finishedAt\":\"%s\",\"logError\":%d}\n", (int)code, signal,
		       state->started, finished, log_error);
}
