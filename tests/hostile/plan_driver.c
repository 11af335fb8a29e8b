/* plan_driver.c: decodes plans from standard input (each after its length, 32 bits) and answers with one byte for each: 'r' refused, 'a' accepted.
 *
 * Of an accepted plan it touches everything that whoever performs the operations touches. Built with sanitizers by tests/hostile/test_plan_fuzz.py.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include "plan.h"

/* By kind: the texts that are read as strings and as lists without a look whether they are there. Taken from monitor.c, child.c, mounts.c, creds.c. */
static const struct use {
	uint32_t kind;
	unsigned strings, lists;
} uses[] = {
	{ RL_OP_MONITOR, 3, 0 },     { RL_OP_OVERLAY, 3, 8 },  { RL_OP_LIKE, 3, 0 },     { RL_OP_HELPER, 0, 1 },     { RL_OP_REMOVE, 3, 0 },
	{ RL_OP_NETWORK, 0, 1 },     { RL_OP_SETNS, 1, 0 },    { RL_OP_HOSTNAME, 1, 0 }, { RL_OP_DOMAINNAME, 1, 0 }, { RL_OP_PROPAGATION, 1, 0 },
	{ RL_OP_ROOT, 1, 0 },        { RL_OP_MKDIR, 1, 0 },    { RL_OP_MOUNT, 7, 0 },    { RL_OP_BIND, 3, 0 },       { RL_OP_SYMLINK, 3, 0 },
	{ RL_OP_MASK, 1, 0 },        { RL_OP_READONLY, 1, 0 }, { RL_OP_SYSCTL, 3, 0 },   { RL_OP_CWD, 1, 0 },        { RL_OP_EXEC, 0, 7 },
};

static volatile size_t sink;

static void touch_list(char **list)
{
	for (char **word = list; *word; word++)
		sink += strlen(*word);
}

static void touch(const struct rl_plan *plan, const struct rl_op *op)
{
	for (int i = 0; i < 4; i++)
		if (op->text[i] && !op->count[i])
			sink += strlen(rl_text(plan, op, i));
	for (size_t n = 0; n < sizeof uses / sizeof *uses; n++) {
		if (uses[n].kind != op->kind)
			continue;
		for (int i = 0; i < 4; i++) {
			if (uses[n].strings & 1u << i)
				sink += strlen(rl_text(plan, op, i));
			if (uses[n].lists & 1u << i) {
				char **list = rl_list(plan, op, i);
				touch_list(list);
				if (op->kind == RL_OP_HELPER || op->kind == RL_OP_NETWORK)
					sink += strlen(list[0]);
				free(list);
			}
		}
	}
	if (op->kind == RL_OP_USER || op->kind == RL_OP_SECCOMP) {
		const char *blob = rl_text(plan, op, 0);
		for (uint32_t n = 0; n < op->count[0]; n++)
			sink += (size_t)blob[n];
		if (op->kind == RL_OP_SECCOMP && op->count[0] >= sizeof(struct sock_filter))
			sink += ((const struct sock_filter *)(const void *)blob)->code;
	}
}

static void decode(int file)
{
	struct rl_plan plan;
	char answer = 'r';

	if (rl_plan_open(&plan, file) == 0) {
		answer = 'a';
		for (uint32_t n = 0; n < plan.header->op_count; n++)
			touch(&plan, &plan.ops[n]);
		if (plan.candidates) {
			touch_list(plan.candidates);
			touch_list(plan.argv);
			touch_list(plan.environment);
			sink += strlen(plan.argv[0]);
		}
		free(plan.candidates);
		free(plan.argv);
		free(plan.environment);
		munmap((void *)plan.header, plan.header->size);
	}
	if (write(1, &answer, 1) != 1)
		_exit(2);
}

static int read_all(void *buffer, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t got = read(0, (char *)buffer + done, size - done);
		if (got <= 0)
			return -1;
		done += (size_t)got;
	}
	return 0;
}

int main(void)
{
	uint32_t size;

	while (read_all(&size, sizeof size) == 0) {
		char *data = malloc(size ? size : 1);
		int file = memfd_create("plan", 0);

		if (!data || file < 0 || read_all(data, size) < 0 || write(file, data, size) != (ssize_t)size)
			return 2;
		free(data);
		decode(file);
		close(file);
	}
	return 0;
}
