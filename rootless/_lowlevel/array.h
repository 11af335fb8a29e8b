/* array.h: arrays that grow. */
#ifndef RL_ARRAY_H
#define RL_ARRAY_H

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

/* Room for one more element of `size` bytes in an array that doubles, up to `limit` elements. The array, perhaps moved; or NULL and errno, it being as it was. */
static inline void *rl_grown(void *array, size_t count, size_t *capacity, size_t size, size_t limit)
{
	if (count < *capacity)
		return array;
	size_t wanted = *capacity ? *capacity * 2 : 64;
	if (wanted > limit)
		wanted = limit;
	if (count >= wanted) {
		errno = ENOMEM;
		return NULL;
	}
	void *larger = realloc(array, wanted * size);
	if (larger)
		*capacity = wanted;
	return larger;
}

#endif
