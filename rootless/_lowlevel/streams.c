#define _GNU_SOURCE
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "report.h"

#define BIT(stream) (1u << (stream))
#define DRAINED_MAX ((1u << 20) / RL_DATA_MAX + 1) /* of the largest pipe that anybody but root can make: /proc/sys/fs/pipe-max-size, pipe(7) */

static const uint32_t message_of[3] = { 0, RL_MSG_STDOUT, RL_MSG_STDERR };
static const char *const name_of[3] = { "stdin", "stdout", "stderr" };

void rl_streams_init(struct rl_streams *streams)
{
	memset(streams, 0, offsetof(struct rl_streams, sources));
	for (int i = 0; i < RL_MAX_CLIENTS; i++)
		streams->clients[i].socket = -1;
	for (int i = 0; i < 3; i++) {
		streams->sources[i].file = -1;
		streams->sources[i].length = streams->sources[i].drained = 0;
	}
	streams->terminal = streams->stdin_ended = false;
	streams->process = 0;
}

static void drop(struct rl_client *client)
{
	close(client->socket);
	client->socket = -1;
	client->wants = client->waiting = 0;
}

static void close_source(struct rl_source *source)
{
	if (source->file >= 0)
		close(source->file);
	source->file = -1;
	source->length = 0;
}

void rl_streams_add(struct rl_streams *streams, int socket, uint32_t wants)
{
	for (int i = 0; i < RL_MAX_CLIENTS; i++) {
		struct rl_client *client = &streams->clients[i];
		if (client->socket >= 0)
			continue;
		/* Sending must never block the loop; a client that does not read is waited for in poll(2). */
		if (fcntl(socket, F_SETFL, O_NONBLOCK) < 0)
			break;
		*client = (struct rl_client){ .socket = socket, .wants = wants };
		return;
	}
	close(socket);
}

/* Offer a stream's buffer to every client that still waits for it; when nobody does, the buffer is free again. */
static void deliver(struct rl_streams *streams, int stream)
{
	struct rl_source *source = &streams->sources[stream];
	bool waiting = false;

	for (int i = 0; i < RL_MAX_CLIENTS; i++) {
		struct rl_client *client = &streams->clients[i];
		if (client->socket < 0 || !(client->waiting & BIT(stream)))
			continue;
		if (rl_send(client->socket, message_of[stream], source->data, source->length, -1) == 0)
			client->waiting &= ~BIT(stream);
		else if (errno == EAGAIN || errno == ENOBUFS)
			waiting = true;
		else
			drop(client);
	}
	if (!waiting)
		source->length = 0;
}

/* Read one buffer of output: into the log, then to the clients. */
static void take_output(struct rl_streams *streams, int stream)
{
	struct rl_source *source = &streams->sources[stream];
	ssize_t got = read(source->file, source->data, sizeof source->data);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) { /* EIO: nobody holds the terminal open any more */
		close_source(source);
		return;
	}
	source->length = (size_t)got;
	rl_log_append(&streams->log, name_of[stream], source->data, source->length);
	for (int i = 0; i < RL_MAX_CLIENTS; i++)
		if (streams->clients[i].socket >= 0 && streams->clients[i].wants & BIT(stream))
			streams->clients[i].waiting |= BIT(stream);
	deliver(streams, stream);
}

/* Write what is in the buffer of standard input; what does not fit stays for later. */
static void give_input(struct rl_streams *streams)
{
	struct rl_source *input = &streams->sources[RL_STREAM_STDIN];

	while (input->length && input->file >= 0) {
		ssize_t written = write(input->file, input->data, input->length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0 && errno == EAGAIN)
			return;
		if (written < 0) { /* EPIPE: the container closed it */
			close_source(input);
			return;
		}
		input->length -= (size_t)written;
		memmove(input->data, input->data + written, input->length);
	}
	if (!input->length && streams->stdin_ended) {
		streams->stdin_ended = false;
		close_source(input);
	}
}

static void end_input(struct rl_streams *streams)
{
	struct rl_source *input = &streams->sources[RL_STREAM_STDIN];
	struct termios mode;

	if (input->file < 0)
		return;
	if (!streams->terminal) {
		streams->stdin_ended = true;
	} else if (tcgetattr(input->file, &mode) == 0 && input->length < sizeof input->data) {
		/* A terminal has no end; the character that means it has. */
		input->data[input->length++] = (char)mode.c_cc[VEOF];
	}
	give_input(streams);
}

static void resize(struct rl_streams *streams, const struct rl_size *size)
{
	struct winsize window = { .ws_row = size->rows, .ws_col = size->columns };

	if (streams->terminal && streams->sources[RL_STREAM_STDOUT].file >= 0)
		(void)ioctl(streams->sources[RL_STREAM_STDOUT].file, TIOCSWINSZ, &window);
}

static void receive(struct rl_streams *streams, struct rl_client *client)
{
	struct rl_source *input = &streams->sources[RL_STREAM_STDIN];
	union {
		uint32_t mask;
		int32_t number;
		struct rl_size size;
	} fixed;
	uint32_t type;
	ssize_t length = rl_receive(client->socket, &type, streams->inbox, sizeof streams->inbox, NULL);

	if (length < 0) {
		if (errno != EAGAIN)
			drop(client);
		return;
	}
	memcpy(&fixed, streams->inbox, (size_t)length < sizeof fixed ? (size_t)length : sizeof fixed);
	if (type == RL_MSG_STDIN) {
		if (input->file < 0 || !(client->wants & BIT(RL_STREAM_STDIN)))
			return;
		/* Its buffer is empty: rl_streams_poll does not listen to a writer before. */
		memcpy(input->data, streams->inbox, (size_t)length);
		input->length = (size_t)length;
		if (length)
			give_input(streams);
		else
			end_input(streams);
	} else if (type == RL_MSG_RESIZE && length == sizeof fixed.size) {
		resize(streams, &fixed.size);
	} else if (type == RL_MSG_SIGNAL && length == sizeof fixed.number) {
		int32_t error = streams->process && kill(streams->process, fixed.number) == 0 ? 0 : streams->process ? errno : ESRCH;
		(void)rl_send(client->socket, RL_MSG_RESULT, &error, sizeof error, -1);
	} else if (type == RL_MSG_ATTACH && length == sizeof fixed.mask) {
		client->wants = fixed.mask;
	} else if (type == RL_MSG_CLOSE && length == sizeof fixed.mask && (fixed.mask == RL_STREAM_STDOUT || fixed.mask == RL_STREAM_STDERR)) {
		close_source(&streams->sources[fixed.mask]);
		if (streams->terminal) /* its other descriptor: nobody holds the master any more, which is a hang-up */
			close_source(&streams->sources[RL_STREAM_STDIN]);
	} else {
		drop(client);
	}
}

/* A container that does not read its input stops those who write it, and nobody else: signals come by connections of their own. */
static bool may_receive(const struct rl_streams *streams, const struct rl_client *client)
{
	return !(streams->sources[RL_STREAM_STDIN].length && client->wants & BIT(RL_STREAM_STDIN));
}

size_t rl_streams_poll(struct rl_streams *streams, struct pollfd *polls)
{
	struct rl_source *input = &streams->sources[RL_STREAM_STDIN];
	size_t count = 0;

	for (int i = 0; i < RL_MAX_CLIENTS; i++) {
		struct rl_client *client = &streams->clients[i];
		if (client->socket < 0)
			continue;
		short events = client->waiting ? POLLOUT : 0;
		if (may_receive(streams, client))
			events |= POLLIN;
		polls[count++] = (struct pollfd){ .fd = client->socket, .events = events };
	}
	for (int stream = RL_STREAM_STDOUT; stream <= RL_STREAM_STDERR; stream++)
		if (streams->sources[stream].file >= 0 && !streams->sources[stream].length)
			polls[count++] = (struct pollfd){ .fd = streams->sources[stream].file, .events = POLLIN };
	if (input->file >= 0 && input->length)
		polls[count++] = (struct pollfd){ .fd = input->file, .events = POLLOUT };
	return count;
}

void rl_streams_serve(struct rl_streams *streams, const struct pollfd *polls, size_t count)
{
	for (size_t n = 0; n < count; n++) {
		if (!polls[n].revents)
			continue;
		for (int stream = RL_STREAM_STDOUT; stream <= RL_STREAM_STDERR; stream++)
			if (polls[n].fd == streams->sources[stream].file && polls[n].events == POLLIN && !streams->sources[stream].length)
				take_output(streams, stream);
		if (polls[n].fd == streams->sources[RL_STREAM_STDIN].file && polls[n].events == POLLOUT)
			give_input(streams);
		for (int i = 0; i < RL_MAX_CLIENTS; i++) {
			struct rl_client *client = &streams->clients[i];
			if (client->socket < 0 || client->socket != polls[n].fd)
				continue;
			if (polls[n].revents & POLLOUT)
				for (int stream = RL_STREAM_STDOUT; stream <= RL_STREAM_STDERR; stream++)
					if (client->waiting & BIT(stream))
						deliver(streams, stream);
			if (client->socket >= 0 && polls[n].revents & (POLLERR | POLLHUP) && !(polls[n].events & POLLIN))
				drop(client);
			else if (client->socket >= 0 && polls[n].revents & (POLLIN | POLLHUP | POLLERR) && may_receive(streams, client))
				receive(streams, client);
			break;
		}
	}
}

bool rl_streams_drain(struct rl_streams *streams)
{
	bool done = true;

	streams->process = 0;
	close_source(&streams->sources[RL_STREAM_STDIN]);
	for (int stream = RL_STREAM_STDOUT; stream <= RL_STREAM_STDERR; stream++) {
		struct rl_source *source = &streams->sources[stream];
		struct pollfd ready = { .fd = source->file, .events = POLLIN };

		while (source->file >= 0 && !source->length) {
			/* All writers are dead or no longer ours: what is not there now never comes. Those in a pid namespace that is not the container's own
			 * may live, and write for ever: a pipe held no more than so many pieces when the container ended. */
			if (poll(&ready, 1, 0) <= 0 || !(ready.revents & (POLLIN | POLLHUP)) || (!streams->terminal && source->drained++ == DRAINED_MAX))
				close_source(source);
			else
				take_output(streams, stream);
		}
		if (source->length)
			done = false;
	}
	return done;
}

void rl_streams_tell(struct rl_streams *streams, int32_t code, bool readers)
{
	for (int i = 0; i < RL_MAX_CLIENTS; i++) {
		struct rl_client *client = &streams->clients[i];
		if (client->socket < 0 || (client->wants != 0) != readers)
			continue;
		struct timeval patience = { .tv_sec = 2 };
		/* The queue may be full of output just delivered: wait, but not for a client that is stopped. */
		(void)fcntl(client->socket, F_SETFL, 0);
		(void)setsockopt(client->socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
		(void)rl_send(client->socket, RL_MSG_EXITED, &code, sizeof code, -1);
		(void)fcntl(client->socket, F_SETFL, O_NONBLOCK);
	}
}
