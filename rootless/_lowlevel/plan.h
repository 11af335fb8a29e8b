/* plan.h: a plan in memory. Decoding allocates and belongs to the parent; reading does not and is the child's. */
#ifndef RL_PLAN_H
#define RL_PLAN_H

#include <stddef.h>

#include "core.h"

struct rl_plan {
	const struct rl_plan_header *header;
	const struct rl_op *ops;
	/* The lists of the plan's RL_OP_EXEC as execve(2) wants them; made by the parent because the child must not allocate. */
	char **candidates, **argv, **environment;
};

/* Map the plan in `descriptor` and check every offset in it. 0, or -1 and errno (EINVAL: malformed). */
int rl_plan_open(struct rl_plan *plan, int descriptor);

/* String `i` of an operation, NULL where it has none. */
const char *rl_text(const struct rl_plan *plan, const struct rl_op *op, int i);

/* List `i` of an operation as an allocated, NULL-terminated array; NULL and errno where memory ends. */
char **rl_list(const struct rl_plan *plan, const struct rl_op *op, int i);

/* The first operation of a kind, NULL where there is none. */
const struct rl_op *rl_find(const struct rl_plan *plan, uint32_t kind);

#endif
