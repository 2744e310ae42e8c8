// SPDX-License-Identifier: GPL-2.0-or-later
/* Every file of the driver adds to an answer: so this one knows none of the others. */
#include <linux/kernel.h>

#include "kvmtools.h"

void answer_add(struct answer *answer, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	answer->length += vscnprintf(answer->text + answer->length, answer->room - answer->length, format, arguments);
	va_end(arguments);
}
