/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The serial lines on which the host asks: lines in, `data LENGTH` blocks and one last `ok` or `err` out. */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "system.h"

#define LINE_BYTES 4096

struct channel {
	const char *path;
	int fd;
	int lost; /* the host went away in the middle of a reply: drop the rest of it */
	size length;
	char line[LINE_BYTES];
};

/* Wait for at most half a second; returns a channel with a whole line (zero-terminated) in it, or 0. */
struct channel *channel_next(void);
void channel_open_all(void);

void reply_data(struct channel *channel, const void *data, size bytes);
void reply_text(struct channel *channel, const char *text);
void reply_ok(struct channel *channel);
void reply_error(struct channel *channel, long error, const char *what);

#endif
