/* child.h: the process that becomes the container's.
 *
 * Everything that is declared here runs between clone(2) and execve(2), in a process that shares nothing but its history with its parent. It allocates
 * nothing, formats nothing and calls nothing outside the allow-list of tests/kernel/test_core_symbols.py. Functions return 0, or -1 and errno.
 */
#ifndef RL_CHILD_H
#define RL_CHILD_H

#include "plan.h"

/* What the operations hand on to one another. */
struct rl_child {
	const struct rl_plan *plan;
	int channel;  /* to the parent */
	int root;     /* O_PATH descriptor of the root, -1 before RL_OP_ROOT */
};

/* Interpret the plan. Returns only on failure, after it was reported, with the exit code for the process. */
int rl_child_run(const struct rl_plan *plan, int channel);

/* mounts.c */
int rl_do_propagation(struct rl_child *child, const struct rl_op *op);
int rl_do_root(struct rl_child *child, const struct rl_op *op);
int rl_do_mkdir(struct rl_child *child, const struct rl_op *op);
int rl_do_mount(struct rl_child *child, const struct rl_op *op);
int rl_do_bind(struct rl_child *child, const struct rl_op *op);
int rl_do_symlink(struct rl_child *child, const struct rl_op *op);
int rl_do_mask(struct rl_child *child, const struct rl_op *op);
int rl_do_readonly(struct rl_child *child, const struct rl_op *op);
int rl_do_pivot(struct rl_child *child, const struct rl_op *op);
int rl_do_sysctl(struct rl_child *child, const struct rl_op *op);

/* Open `path` beneath the root, whatever symlinks stand in it. Returns a descriptor. */
int rl_open_in_root(int root, const char *path, uint64_t flags);

/* terminal.c */
int rl_do_terminal(struct rl_child *child, const struct rl_op *op);

/* creds.c */
int rl_do_setns(struct rl_child *child, const struct rl_op *op);
int rl_do_loopback(struct rl_child *child, const struct rl_op *op);
int rl_do_rlimit(struct rl_child *child, const struct rl_op *op);
int rl_do_oom_score(struct rl_child *child, const struct rl_op *op);
int rl_do_bounding(struct rl_child *child, const struct rl_op *op);
int rl_do_user(struct rl_child *child, const struct rl_op *op);
int rl_do_caps(struct rl_child *child, const struct rl_op *op);
int rl_do_seccomp(struct rl_child *child, const struct rl_op *op);

/* init.c */
int rl_do_init(struct rl_child *child, const struct rl_op *op);

#endif
