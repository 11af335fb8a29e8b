/* tree.h: remove a tree whose contents nobody vouches for. */
#ifndef RL_TREE_H
#define RL_TREE_H

struct rl_tree_failure {
	int error;      /* errno */
	char text[240]; /* `NAME: what failed`, printable ASCII */
};

/* Remove `name` (one component) in `parent_fd` and all beneath. Follows no symlink, enters no other mount (EXDEV, EBUSY), needs no permission bits on directories.
 * Any depth takes the same memory and few descriptors. Entries that others add or remove meanwhile do no harm. What is not there is success.
 * 0, or -1 and *failure (may be NULL); what remains then may lie flattened, as directories `.rl-N` at the top of the tree. */
int rl_remove_tree(int parent_fd, const char *name, struct rl_tree_failure *failure);

#endif
