/* launch.h: from a plan to a process. */
#ifndef RL_LAUNCH_H
#define RL_LAUNCH_H

#include <sys/types.h>

#include "plan.h"

struct rl_launched {
	pid_t pid;
	int channel; /* to the child; closes without a message when it has executed its command */
};

/* Clone a child with the plan's namespaces; it makes `streams` its 0, 1 and 2 and interprets the plan. 0, or -1 and errno. */
int rl_launch(const struct rl_plan *plan, const int streams[3], struct rl_launched *launched);

/* Start a helper program in `directory` (a descriptor; -1: where we are), with `extra[i]` at descriptor 5 + i (-1 ends the list) and its standard error in
 * *diagnostics (a pipe to read; keep it open while the program runs). Returns its pid. */
pid_t rl_start_helper(char *const argv[], int directory, const int *extra, int *diagnostics);

/* Read what a helper wrote to its standard error, as one line cut to fit. Never blocks for longer than it takes the helper to close it. */
void rl_read_diagnostics(int diagnostics, char *text, size_t size);

/* Field 22 of /proc/PID/stat, 0 where it cannot be read. A pid means something only together with it. */
uint64_t rl_start_time(pid_t pid);

#endif
