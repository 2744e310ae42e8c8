// SPDX-License-Identifier: GPL-2.0-or-later
#include "channel.h"
#include "text.h"

/* A 16550 passes each byte through the emulated chip; a virtio port moves many at once.  Both speak the same words. */
static struct channel channels[] = {
	{ .path = "/dev/ttyS1", .fd = -1 },
	{ .path = "/dev/vport0p1", .fd = -1 },
};

enum { CHANNELS = sizeof(channels) / sizeof(channels[0]), KILL_LINE = 'U' & 0x1f };

enum { WAIT_MILLISECONDS = 500, ABSENT_MILLISECONDS = 30 };
enum { RETRY_MILLISECONDS = 10, ABSENT_TRIES = 100, STALLED_TRIES = 3000 };

/* A virtio port copies each write into one block of the kernel's: small enough to be had under a memory workload. */
enum { SEND_BYTES = 16384 };

/* The kernel's struct termios (uapi/asm-generic/termbits.h), which is not a C library's. */
struct termios {
	unsigned int input, output, control, local;
	unsigned char discipline, characters[19];
};

enum { TCGETS = 0x5401, TCSETS = 0x5402, VMIN = 6, VTIME = 5 };
enum { B115200 = 0x1002, CS8 = 0x30, CREAD = 0x80, CLOCAL = 0x800 };

static void make_raw(int fd)
{
	struct termios settings;

	if (call3(SYS_IOCTL, fd, TCGETS, &settings) < 0)
		return;
	settings.input = settings.output = settings.local = 0;
	settings.control = B115200 | CS8 | CREAD | CLOCAL;
	settings.characters[VMIN] = 1;
	settings.characters[VTIME] = 0;
	call3(SYS_IOCTL, fd, TCSETS, &settings);
}

void channel_open_all(void)
{
	int index;

	for (index = 0; index < CHANNELS; index++) {
		channels[index].fd = sys_open(channels[index].path, O_RDWR | O_NOCTTY | O_NONBLOCK);
		if (channels[index].fd >= 0)
			make_raw(channels[index].fd);
	}
}

/* Take bytes until a line is whole.  One at a time, so that the next line stays in the kernel's buffer. */
static int take_line(struct channel *channel)
{
	char byte;

	while (sys_read(channel->fd, &byte, 1) == 1) {
		if (byte == KILL_LINE) {
			channel->length = 0;
		} else if (byte == '\n') {
			channel->line[channel->length] = 0;
			channel->length = 0;
			return 1;
		} else if (channel->length < LINE_BYTES - 1) {
			channel->line[channel->length++] = byte;
		}
	}
	return 0;
}

struct channel *channel_next(void)
{
	struct pollfd fds[CHANNELS];
	int index, hung_up = 0, ready = 0;

	for (index = 0; index < CHANNELS; index++) {
		if (channels[index].fd >= 0 && take_line(&channels[index])) {
			channels[index].lost = 0;
			return &channels[index];
		}
		fds[index] = (struct pollfd){ .fd = channels[index].fd, .events = POLLIN };
	}
	sys_poll(fds, CHANNELS, WAIT_MILLISECONDS);
	for (index = 0; index < CHANNELS; index++) {
		if (fds[index].revents & POLLHUP)
			hung_up = 1;
		else
			ready |= fds[index].revents;
	}
	/* A virtio port without a host says so at once, for ever (and that it is readable). */
	if (hung_up && !ready)
		pause_milliseconds(ABSENT_MILLISECONDS);
	return 0;
}

/*
 * Nobody may stall us for ever.  A virtio port tells of a new host later than that host's first bytes arrive, so "nobody
 * there" may just not be true any more: the reply waits a second before it is dropped, and half a minute for a host that
 * is there and takes nothing.
 */
static void send(struct channel *channel, const char *bytes, size left)
{
	int tries = 0;

	while (left && !channel->lost) {
		struct pollfd fd = { .fd = channel->fd, .events = POLLOUT };
		long sent = sys_write(channel->fd, bytes, left < SEND_BYTES ? left : SEND_BYTES);

		if (sent > 0) {
			bytes += sent;
			left -= sent;
			tries = 0;
			continue;
		}
		if (sent != -EAGAIN && sent != -EINTR && sent != -ENOMEM) {
			channel->lost = 1;
			continue;
		}
		sys_poll(&fd, 1, RETRY_MILLISECONDS);
		if (fd.revents & POLLHUP || sent == -ENOMEM)
			pause_milliseconds(RETRY_MILLISECONDS);
		channel->lost = ++tries >= (fd.revents & POLLHUP ? ABSENT_TRIES : STALLED_TRIES);
	}
}

void reply_data(struct channel *channel, const void *data, size bytes)
{
	char head[32];
	char *end = add_text(add_number(add_text(head, "data "), bytes), "\n");

	send(channel, head, end - head);
	send(channel, data, bytes);
}

void reply_text(struct channel *channel, const char *text)
{
	reply_data(channel, text, text_length(text));
}

void reply_ok(struct channel *channel)
{
	send(channel, "ok\n", 3);
}

void reply_error(struct channel *channel, long error, const char *what)
{
	char line[LINE_BYTES + 32];
	char *end = add_text(add_number(add_text(line, "err "), error < 0 ? -error : error), " ");

	end = add_text(add_text(end, what), "\n");
	send(channel, line, end - line);
}
