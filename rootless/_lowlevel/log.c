#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int rl_log_open(struct rl_log *log, const char *path)
{
	log->file = -1;
	log->error = 0;
	log->used = 0;
	log->second = -1;
	if (!path)
		return 0;
	log->file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return log->file < 0 ? -1 : 0;
}

static void flush(struct rl_log *log)
{
	size_t done = 0;

	while (done < log->used && log->file >= 0) {
		ssize_t written = write(log->file, log->buffer + done, log->used - done);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0) {
			log->error = errno;
			close(log->file);
			log->file = -1;
			break;
		}
		done += (size_t)written;
	}
	log->used = 0;
}

static void put(struct rl_log *log, const char *data, size_t length)
{
	while (length) {
		size_t room = sizeof log->buffer - log->used;
		size_t part = length < room ? length : room;
		memcpy(log->buffer + log->used, data, part);
		log->used += part;
		data += part;
		length -= part;
		if (log->used == sizeof log->buffer)
			flush(log);
	}
}

/* "YYYY-MM-DDTHH:MM:SS" of a second; the calendar is reckoned once a second, not once a line. */
static void stamp_second(struct rl_log *log, time_t second)
{
	struct tm parts;

	if (second == log->second)
		return;
	gmtime_r(&second, &parts);
	strftime(log->stamp, sizeof log->stamp, "%Y-%m-%dT%H:%M:%S", &parts);
	log->second = second;
}

void rl_log_append(struct rl_log *log, const char *stream, const char *data, size_t length)
{
	struct timespec now;
	char head[64];

	if (log->file < 0 || length == 0)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	stamp_second(log, now.tv_sec);
	int head_length = snprintf(head, sizeof head, "%s.%09ldZ %s ", log->stamp, now.tv_nsec, stream);
	while (length) {
		const char *end = memchr(data, '\n', length);
		size_t part = end ? (size_t)(end - data) : length;
		put(log, head, (size_t)head_length);
		put(log, end ? "F " : "P ", 2);
		put(log, data, part);
		put(log, "\n", 1);
		data += part + (end ? 1 : 0);
		length -= part + (end ? 1 : 0);
	}
	flush(log);
}

void rl_now(char *text, size_t size)
{
	struct timespec now;
	struct tm parts;
	char seconds[24];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(seconds, sizeof seconds, "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(text, size, "%s.%09ldZ", seconds, now.tv_nsec);
}
