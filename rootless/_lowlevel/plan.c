#define _GNU_SOURCE
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static int is_blob(const struct rl_op *op, int i)
{
	return i == 0 && (op->kind == RL_OP_USER || op->kind == RL_OP_SECCOMP);
}

/* text[i], or the strings or bytes that start there, must lie inside the file. */
static int check_text(const char *base, size_t size, const struct rl_op *op, int i)
{
	size_t offset = op->text[i];

	if (offset == 0)
		return op->count[i] == 0;
	if (offset >= size)
		return 0;
	if (is_blob(op, i))
		return op->count[i] <= size - offset && offset % sizeof(uint64_t) == 0;
	for (uint32_t n = 0; n < (op->count[i] ? op->count[i] : 1); n++) {
		if (offset >= size)
			return 0;
		const char *end = memchr(base + offset, 0, size - offset);
		if (!end)
			return 0;
		offset = (size_t)(end - base) + 1;
	}
	return 1;
}

/* The texts that an operation cannot do without, as a mask. Whoever performs it may rely on them. */
static unsigned required_texts(uint32_t kind)
{
	switch (kind) {
	case RL_OP_HELPER:
	case RL_OP_NETWORK:
	case RL_OP_SETNS:
	case RL_OP_HOSTNAME:
	case RL_OP_DOMAINNAME:
	case RL_OP_PROPAGATION:
	case RL_OP_ROOT:
	case RL_OP_MKDIR:
	case RL_OP_MASK:
	case RL_OP_READONLY:
	case RL_OP_SECCOMP:
	case RL_OP_CWD:
		return 1u;
	case RL_OP_MONITOR:
	case RL_OP_REMOVE:
	case RL_OP_LIKE:
	case RL_OP_BIND:
	case RL_OP_SYMLINK:
	case RL_OP_SYSCTL:
		return 1u | 2u;
	case RL_OP_MOUNT:
	case RL_OP_EXEC:
		return 1u | 2u | 4u;
	case RL_OP_OVERLAY:
		return 1u | 2u | 8u;
	default:
		return 0;
	}
}

static int check_operation(const char *base, size_t size, const struct rl_op *op)
{
	for (int i = 0; i < 4; i++)
		if (!check_text(base, size, op, i) || (required_texts(op->kind) & 1u << i && !op->text[i]))
			return 0;
	if (op->kind == RL_OP_HELPER || op->kind == RL_OP_NETWORK)
		return op->count[0] > 0; /* an argv has a first word */
	return op->kind != RL_OP_EXEC || op->count[1] > 0;
}

int rl_plan_open(struct rl_plan *plan, int descriptor)
{
	struct stat status;

	memset(plan, 0, sizeof *plan);
	if (fstat(descriptor, &status) < 0)
		return -1;
	if (status.st_size < (off_t)sizeof(struct rl_plan_header) || status.st_size > (off_t)RL_PLAN_MAX_SIZE) {
		errno = EINVAL;
		return -1;
	}
	size_t size = (size_t)status.st_size;
	const char *base = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
	if (base == MAP_FAILED)
		return -1;
	plan->header = (const struct rl_plan_header *)base;
	plan->ops = (const struct rl_op *)(base + sizeof *plan->header);
	int whole = plan->header->magic == RL_PLAN_MAGIC && plan->header->size == size && plan->header->op_count <= RL_PLAN_MAX_OPS &&
		    plan->header->op_count * sizeof(struct rl_op) <= size - sizeof *plan->header;
	for (uint32_t n = 0; whole && n < plan->header->op_count; n++)
		whole = check_operation(base, size, &plan->ops[n]);
	if (!whole) {
		(void)munmap((void *)base, size);
		errno = EINVAL;
		return -1;
	}
	const struct rl_op *exec = rl_find(plan, RL_OP_EXEC);
	if (exec) {
		plan->candidates = rl_list(plan, exec, 0);
		plan->argv = rl_list(plan, exec, 1);
		plan->environment = rl_list(plan, exec, 2);
		if (!plan->candidates || !plan->argv || !plan->environment)
			return -1;
	}
	return 0;
}

const char *rl_text(const struct rl_plan *plan, const struct rl_op *op, int i)
{
	return op->text[i] ? (const char *)plan->header + op->text[i] : NULL;
}

char **rl_list(const struct rl_plan *plan, const struct rl_op *op, int i)
{
	char **list = calloc((size_t)op->count[i] + 1, sizeof *list);
	const char *next = rl_text(plan, op, i);

	if (!list)
		return NULL;
	for (uint32_t n = 0; next && n < op->count[i]; n++) {
		list[n] = (char *)next;
		next += strlen(next) + 1;
	}
	return list;
}

const struct rl_op *rl_find(const struct rl_plan *plan, uint32_t kind)
{
	for (uint32_t n = 0; n < plan->header->op_count; n++)
		if (plan->ops[n].kind == kind)
			return &plan->ops[n];
	return NULL;
}
