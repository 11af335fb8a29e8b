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
	errno = EINVAL;
	if (plan->header->magic != RL_PLAN_MAGIC || plan->header->size != size || plan->header->op_count > RL_PLAN_MAX_OPS ||
	    plan->header->op_count * sizeof(struct rl_op) > size - sizeof *plan->header)
		return -1;
	for (uint32_t n = 0; n < plan->header->op_count; n++)
		for (int i = 0; i < 4; i++)
			if (!check_text(base, size, &plan->ops[n], i)) {
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
