/* state.h: the two small documents that the monitor writes about its container. */
#ifndef RL_STATE_H
#define RL_STATE_H

#include <stdint.h>
#include <sys/types.h>

struct rl_state {
	int runtime;   /* directory of state.json and monitor.sock */
	int directory; /* the container's directory, for exit.json */
	pid_t pid;     /* 0: not yet */
	uint64_t start_time;
	char started[36]; /* RFC 3339; empty: not yet */
};

/* Replace state.json: the monitor, the process, each with its start time. 0, or -1 and errno. */
int rl_write_state(const struct rl_state *state);

/* The process has begun: started.json in the container's directory takes exit.json's place. 0, or -1 and errno. */
int rl_write_started(const struct rl_state *state);

/* Write exit.json, durable, once. 0, or -1 and errno. */
int rl_write_exit(const struct rl_state *state, int32_t code, int signal, int log_error);

#endif
