#define _GNU_SOURCE
#include "report.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union descriptor_buffer {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

int rl_send(int socket, uint32_t type, const void *payload, size_t size, int descriptor)
{
	struct iovec parts[2] = {
		{ .iov_base = &type, .iov_len = sizeof type },
		{ .iov_base = (void *)payload, .iov_len = size },
	};
	union descriptor_buffer control;
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = size ? 2 : 1 };

	if (descriptor >= 0) {
		memset(&control, 0, sizeof control);
		message.msg_control = control.space;
		message.msg_controllen = sizeof control.space;
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
	}
	for (;;) {
		ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
		if (sent >= 0)
			return 0;
		if (errno != EINTR)
			return -1;
	}
}

ssize_t rl_receive(int socket, uint32_t *type, void *payload, size_t capacity, int *descriptor)
{
	struct iovec parts[2] = {
		{ .iov_base = type, .iov_len = sizeof *type },
		{ .iov_base = payload, .iov_len = capacity },
	};
	union descriptor_buffer control;
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = capacity ? 2 : 1 };
	ssize_t received;

	if (descriptor) {
		*descriptor = -1;
		message.msg_control = control.space;
		message.msg_controllen = CMSG_LEN(sizeof *descriptor); /* one: CMSG_SPACE has room for a second, which nobody would close */
	}
	*type = 0;
	/* ECONNRESET is said once, before what is still queued: the peer has closed without reading all that we sent (unix(7)). */
	do
		received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (received < 0 && (errno == EINTR || errno == ECONNRESET));
	if (received < 0)
		return -1;
	if (descriptor) {
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
			memcpy(descriptor, CMSG_DATA(header), sizeof *descriptor);
	}
	if (received < (ssize_t)sizeof *type || message.msg_flags & MSG_TRUNC) { /* too short, or longer than its kind ever is */
		errno = received ? EPROTO : 0;
		*type = 0;
		if (descriptor && *descriptor >= 0)
			close(*descriptor);
		return -1;
	}
	return received - (ssize_t)sizeof *type;
}

void rl_report(int socket, uint32_t type, uint32_t phase, uint32_t kind, uint32_t index, int error, const char *text)
{
	struct rl_failure failure;

	memset(&failure, 0, sizeof failure);
	failure.phase = phase;
	failure.kind = kind;
	failure.index = index;
	failure.error = error;
	for (size_t i = 0; text && text[i] && i < sizeof failure.text - 1; i++)
		failure.text[i] = text[i];
	(void)rl_send(socket, type, &failure, sizeof failure, -1);
}
