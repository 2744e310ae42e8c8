// SPDX-License-Identifier: GPL-2.0-or-later
#include "text.h"

/* The compiler calls these by itself for copies and initialisers. */
void *memcpy(void *to, const void *from, size bytes)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
	return start;
}

void *memset(void *to, int byte, size bytes)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(byte) : "memory");
	return start;
}

size text_length(const char *text)
{
	const char *end = text;

	while (*end)
		end++;
	return end - text;
}

int text_equal(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

char *add_text(char *end, const char *text)
{
	while (*text)
		*end++ = *text++;
	*end = 0;
	return end;
}

char *add_number(char *end, unsigned int number)
{
	char digits[11];
	char *first = digits + sizeof(digits) - 1;

	*first = 0;
	do {
		*--first = '0' + number % 10;
		number /= 10;
	} while (number);
	return add_text(end, first);
}

char *next_word(char **line)
{
	char *word = *line, *end;

	while (*word == ' ')
		word++;
	end = word;
	while (*end && *end != ' ')
		end++;
	while (*end == ' ')
		*end++ = 0;
	*line = end;
	return word;
}

static int digit(char character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	if (character >= 'a' && character <= 'f')
		return character - 'a' + 10;
	return 16;
}

int parse_number(const char *word, offset *number)
{
	int base = 10;

	if (word[0] == '0' && word[1] == 'x') {
		base = 16;
		word += 2;
	}
	if (!*word)
		return 0;
	for (*number = 0; *word; word++) {
		if (digit(*word) >= base)
			return 0;
		*number = *number * base + digit(*word);
	}
	return 1;
}
