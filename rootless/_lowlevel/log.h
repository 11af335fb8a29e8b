/* log.h: the log of a container, in the CRI format that Kubernetes' tools read (and Podman's k8s-file writes):
 *
 *     2026-11-24T09:30:00.000000000Z stdout F a whole line
 *     2026-11-24T09:30:00.000000000Z stdout P a part that goes on in the next record of its stream
 */
#ifndef RL_LOG_H
#define RL_LOG_H

#include <stddef.h>
#include <time.h>

struct rl_log {
	int file;        /* -1: no log */
	int error;       /* errno of the write that ended it */
	size_t used;
	time_t second;   /* that `stamp` holds */
	char stamp[32];  /* "2026-11-24T09:30:00" */
	char buffer[16384];
};

/* Open the log at `path`, or none where it is NULL. 0, or -1 and errno. */
int rl_log_open(struct rl_log *log, const char *path);

/* Append what a stream ("stdout", "stderr") said. A log that cannot be written (a full disk) ends; the container goes on. */
void rl_log_append(struct rl_log *log, const char *stream, const char *data, size_t length);

/* Now, as RFC 3339 with nanoseconds, in UTC; `text` has room for 36 bytes. */
void rl_now(char *text, size_t size);

#endif
