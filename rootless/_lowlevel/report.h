/* report.h: sending and receiving the messages of core.h. Async-signal-safe: no allocation, no formatting. */
#ifndef RL_REPORT_H
#define RL_REPORT_H

#include <stddef.h>
#include <sys/types.h>

#include "core.h"

/* Send one message, with `descriptor` attached unless it is -1. 0, or -1 and errno. */
int rl_send(int socket, uint32_t type, const void *payload, size_t size, int descriptor);

/* Receive one message. Returns the size of its payload, -1 and errno on failure; a closed peer is -1 with errno 0 and *type 0.
 * An attached descriptor goes to *descriptor (-1: none); pass NULL to refuse one. */
ssize_t rl_receive(int socket, uint32_t *type, void *payload, size_t capacity, int *descriptor);

/* Report `error` (an errno) at a step, with a text cut to fit (may be NULL). The report itself cannot fail usefully: nobody is left to hear of it. */
void rl_report(int socket, uint32_t type, uint32_t phase, uint32_t kind, uint32_t index, int error, const char *text);

#endif
