/* streams.h: between the container's standard streams, its log, and the clients that are attached.
 *
 * Memory is bounded: one buffer for each stream. A buffer is read again only when everyone has taken what it holds, so a slow client slows the container, as a
 * slow reader of a pipe does, and nothing is lost or reordered.
 */
#ifndef RL_STREAMS_H
#define RL_STREAMS_H

#include <poll.h>
#include <stdbool.h>
#include <sys/types.h>

#include "core.h"
#include "log.h"

#define RL_MAX_CLIENTS 32

struct rl_client {
	int socket;       /* -1: free */
	uint32_t wants;   /* mask of 1 << RL_STREAM_* */
	uint32_t waiting; /* streams whose buffer it has not taken yet */
};

struct rl_source {
	int file; /* -1: closed */
	unsigned drained; /* pieces taken after the process ended */
	size_t length;
	char data[RL_DATA_MAX];
};

struct rl_streams {
	struct rl_client clients[RL_MAX_CLIENTS];
	struct rl_source sources[3]; /* by RL_STREAM_*; number 0, standard input, flows the other way */
	bool terminal;
	bool stdin_ended;            /* close standard input once its buffer is empty */
	struct rl_log log;
	char inbox[RL_DATA_MAX];     /* the message being received */
	pid_t process;               /* receives RL_MSG_SIGNAL; 0: gone */
};

void rl_streams_init(struct rl_streams *streams);

/* Add a connected client; it is closed at once where there is no room. */
void rl_streams_add(struct rl_streams *streams, int socket, uint32_t wants);

/* Fill `polls` with what is waited for; returns how many. `polls` has room for RL_MAX_CLIENTS + 3. */
size_t rl_streams_poll(struct rl_streams *streams, struct pollfd *polls);

/* Act on what poll(2) found in those. */
void rl_streams_serve(struct rl_streams *streams, const struct pollfd *polls, size_t count);

/* The process is gone: take what is left in its streams without waiting for more. True once nothing is left to take or to deliver. */
bool rl_streams_drain(struct rl_streams *streams);

/* Tell the exit code to those clients who read no stream, at once, or to those who do, when all was delivered. They are closed when this process ends. */
void rl_streams_tell(struct rl_streams *streams, int32_t code, bool readers);

#endif
