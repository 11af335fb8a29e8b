/* blocks.h: an archive as a stream of bytes in blocks, read through one buffer. Failures are noted in `fault`. */
#ifndef RL_BLOCKS_H
#define RL_BLOCKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fault.h"

struct rl_blocks {
	int file;
	struct rl_fault *fault;
	unsigned char *buffer;
	size_t at, end; /* what is in the buffer and not taken yet */
};

/* Read from `file`, which stays the caller's. -1 where there is no memory. */
int rl_blocks_begin(struct rl_blocks *blocks, int file, struct rl_fault *fault);

void rl_blocks_end(struct rl_blocks *blocks);

/* Take the next block; *block is valid until the stream is next touched. 1, or 0 where the stream ends before it, or -1. */
int rl_next_block(struct rl_blocks *blocks, const unsigned char **block);

/* See some bytes of those that must follow, at the most `size`, as valid as a block is. How many (never 0) or -1. They are taken by rl_took. */
ssize_t rl_peek(struct rl_blocks *blocks, uint64_t size, const unsigned char **bytes);

void rl_took(struct rl_blocks *blocks, size_t size);

/* Take `size` bytes into `target`. */
int rl_take(struct rl_blocks *blocks, char *target, size_t size);

int rl_skip(struct rl_blocks *blocks, uint64_t size);

/* Skip what fills the last block of `size` bytes. */
int rl_skip_padding(struct rl_blocks *blocks, uint64_t size);

/* Skip all that follows: whoever writes to our pipe must be able to finish. */
int rl_drain(struct rl_blocks *blocks);

#endif
