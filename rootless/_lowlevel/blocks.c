/* blocks.c: an archive as a stream of bytes in blocks. */
#define _GNU_SOURCE
#include "blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 1 << 20 };

int rl_blocks_begin(struct rl_blocks *blocks, int file, struct rl_fault *fault)
{
	(void)fcntl(file, F_SETPIPE_SZ, BUFFER); /* where it is a pipe, and the user has not too many of that size */
	*blocks = (struct rl_blocks){ .file = file, .fault = fault, .buffer = malloc(BUFFER) };
	return blocks->buffer ? 0 : -1;
}

void rl_blocks_end(struct rl_blocks *blocks)
{
	free(blocks->buffer);
}

/* Have `size` bytes (at most BUFFER) in the buffer, contiguously. 1, or 0 where the stream ends before the first of them, or -1. */
static int need(struct rl_blocks *blocks, size_t size)
{
	if (blocks->end - blocks->at >= size)
		return 1;
	memmove(blocks->buffer, blocks->buffer + blocks->at, blocks->end - blocks->at);
	blocks->end -= blocks->at;
	blocks->at = 0;
	while (blocks->end < size) {
		ssize_t got = read(blocks->file, blocks->buffer + blocks->end, BUFFER - blocks->end);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return rl_refused(blocks->fault, "cannot read the archive");
		if (got == 0)
			return blocks->end ? rl_malformed(blocks->fault, "the archive is cut short") : 0;
		blocks->end += (size_t)got;
	}
	return 1;
}

int rl_next_block(struct rl_blocks *blocks, const unsigned char **block)
{
	int got = need(blocks, RL_BLOCK);

	if (got > 0) {
		*block = blocks->buffer + blocks->at;
		blocks->at += RL_BLOCK;
	}
	return got;
}

ssize_t rl_peek(struct rl_blocks *blocks, uint64_t size, const unsigned char **bytes)
{
	int got = need(blocks, 1);

	if (got == 0)
		return rl_malformed(blocks->fault, "the archive is cut short");
	if (got < 0)
		return -1;
	const size_t there = blocks->end - blocks->at;
	*bytes = blocks->buffer + blocks->at;
	return (ssize_t)(there < size ? there : size);
}

void rl_took(struct rl_blocks *blocks, size_t size)
{
	blocks->at += size;
}

int rl_take(struct rl_blocks *blocks, char *target, size_t size)
{
	const unsigned char *bytes;

	while (size) {
		ssize_t piece = rl_peek(blocks, size, &bytes);
		if (piece < 0)
			return -1;
		memcpy(target, bytes, (size_t)piece);
		rl_took(blocks, (size_t)piece);
		target += piece;
		size -= (size_t)piece;
	}
	return 0;
}

int rl_skip(struct rl_blocks *blocks, uint64_t size)
{
	const unsigned char *bytes;

	while (size) {
		ssize_t piece = rl_peek(blocks, size, &bytes);
		if (piece < 0)
			return -1;
		rl_took(blocks, (size_t)piece);
		size -= (size_t)piece;
	}
	return 0;
}

int rl_skip_padding(struct rl_blocks *blocks, uint64_t size)
{
	return rl_skip(blocks, (RL_BLOCK - size % RL_BLOCK) % RL_BLOCK);
}

int rl_drain(struct rl_blocks *blocks)
{
	for (;;) {
		ssize_t got = read(blocks->file, blocks->buffer, BUFFER);
		if (got == 0)
			return 0;
		if (got < 0 && errno != EINTR)
			return rl_refused(blocks->fault, "cannot read the archive");
	}
}
