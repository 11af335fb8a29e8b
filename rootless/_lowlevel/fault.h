/* fault.h: why an unpack has ended, noted where it is found. Each note is made once, and returns the -1 that its caller passes up. */
#ifndef RL_FAULT_H
#define RL_FAULT_H

#include <errno.h>
#include <string.h>

#include "archive.h"
#include "unpack.h"

struct rl_fault {
	enum rl_unpack_class class;
	int error;       /* errno, or 0 where the archive is at fault */
	char text[sizeof((struct rl_unpack_result *)0)->text];
	char entry[256]; /* the name of the entry at hand, as the archive has it; what follows is told of it */
	size_t entry_size;
};

static inline void rl_name_entry(struct rl_fault *fault, const char *name, size_t size)
{
	fault->entry_size = size < sizeof fault->entry ? size : sizeof fault->entry;
	memcpy(fault->entry, name, fault->entry_size);
}

static inline int rl_fail(struct rl_fault *fault, enum rl_unpack_class class, int error, const char *what)
{
	fault->class = class;
	fault->error = error;
	rl_describe(fault->text, sizeof fault->text, fault->entry, fault->entry_size, what);
	return -1;
}

static inline int rl_malformed(struct rl_fault *fault, const char *what)
{
	return rl_fail(fault, RL_UNPACK_MALFORMED, 0, what);
}

static inline int rl_hostile(struct rl_fault *fault, const char *what)
{
	return rl_fail(fault, RL_UNPACK_HOSTILE, 0, what);
}

/* A system call has failed. */
static inline int rl_refused(struct rl_fault *fault, const char *what)
{
	return rl_fail(fault, RL_UNPACK_HOST, errno, what);
}

#endif
