/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Words and numbers, as far as a line protocol needs them. */
#ifndef TEXT_H
#define TEXT_H

#include "system.h"

size text_length(const char *text);
int text_equal(const char *a, const char *b);

/* Append at `end`, which points at the terminating zero; return the new end.  The caller knows the room. */
char *add_text(char *end, const char *text);
char *add_number(char *end, unsigned int number);

/* Cut the first word off the line: returns it, and moves the line behind the blanks after it. */
char *next_word(char **line);

/* Decimal or 0x-hexadecimal; returns 0 if the whole word is no such number. */
int parse_number(const char *word, offset *number);

#endif
