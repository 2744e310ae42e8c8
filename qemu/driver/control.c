// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /dev/kvmtools: write one command, read its answer.
 *
 *	alloc N			N highmem pages, each tagged with its pfn in the first word
 *	free			all users and all pages given back
 *	kmap I [TIMES]		TIMES more users of page I
 *	kunmap I [TIMES]	TIMES fewer
 *	cycle N			kmap and kunmap N fresh pages: the cursor moves on N slots and leaves ones behind
 *	flush			what every change of page attributes does: slots without users are emptied
 *	mix N			a wrap, a flush, then N slots in use: counts of 1, 2 and more, zeros between them
 *	local CPU DEPTH		hold DEPTH nested kmap_local_page() mappings on CPU (0: let go)
 *	status			what is held now, and what is wrong
 *	fault NAME		plant a bug: a word of the kernel's memory management in the wrong state
 *	fault list		what there is to plant
 *	fault undo		as it was before
 *
 * `fault=NAME` as a parameter of the module plants it when that is loaded.
 *
 * The answer belongs to the open file, so two clients never read each other's.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "kvmtools.h"

#define COMMAND_BYTES 128

static DEFINE_MUTEX(control_lock);

static int status_command(struct answer *answer)
{
	pages_status(answer);
	local_status(answer);
	fault_status(answer);
	return 0;
}

static int fault_command(const char *name, struct answer *answer)
{
	if (!strcmp(name, "undo"))
		return fault_undo(answer);
	if (strcmp(name, "list"))
		return fault_plant(name, answer);
	fault_list(answer);
	return 0;
}

static int obey(char *line, struct answer *answer)
{
	unsigned int first = 0, second = 0;
	char word[16], name[32], end;
	int words = sscanf(line, "%15s %u %u %c", word, &first, &second, &end);

	if (sscanf(line, "fault %31s %c", name, &end) == 1)
		return fault_command(name, answer);
	if (words == 1 && !strcmp(word, "free"))
		return pages_free(answer);
	if (words == 1 && !strcmp(word, "flush"))
		return pages_flush(answer);
	if (words == 1 && !strcmp(word, "status"))
		return status_command(answer);
	if (words == 2 && !strcmp(word, "alloc"))
		return pages_alloc(first, answer);
	if (words == 2 && !strcmp(word, "cycle"))
		return pages_cycle(first, answer);
	if (words == 2 && !strcmp(word, "mix"))
		return pages_mix(first, answer);
	if ((words == 2 || words == 3) && !strcmp(word, "kmap"))
		return pages_kmap(first, words == 3 ? second : 1, answer);
	if ((words == 2 || words == 3) && !strcmp(word, "kunmap"))
		return pages_kunmap(first, words == 3 ? second : 1, answer);
	if (words == 3 && !strcmp(word, "local"))
		return local_hold(first, second, answer);
	return -EINVAL;
}

static int control_open(struct inode *inode, struct file *file)
{
	struct answer *answer = kzalloc(sizeof(*answer), GFP_KERNEL);

	if (!answer)
		return -ENOMEM;
	answer->room = ANSWER_BYTES;
	answer->text = vzalloc(ANSWER_BYTES);
	if (!answer->text) {
		kfree(answer);
		return -ENOMEM;
	}
	file->private_data = answer;
	return 0;
}

static int control_release(struct inode *inode, struct file *file)
{
	struct answer *answer = file->private_data;

	vfree(answer->text);
	kfree(answer);
	return 0;
}

static ssize_t control_write(struct file *file, const char __user *text, size_t length, loff_t *offset)
{
	struct answer *answer = file->private_data;
	char line[COMMAND_BYTES];
	int error;

	if (length >= sizeof(line))
		return -EMSGSIZE;
	if (copy_from_user(line, text, length))
		return -EFAULT;
	line[length] = '\0';

	mutex_lock(&control_lock);
	answer->length = 0;
	error = obey(line, answer);
	mutex_unlock(&control_lock);
	*offset = 0;
	return error ? error : length;
}

static ssize_t control_read(struct file *file, char __user *text, size_t length, loff_t *offset)
{
	struct answer *answer = file->private_data;

	return simple_read_from_buffer(text, length, offset, answer->text, answer->length);
}

static const struct file_operations control_operations = {
	.owner = THIS_MODULE,
	.open = control_open,
	.release = control_release,
	.read = control_read,
	.write = control_write,
	.llseek = default_llseek,
};

static struct miscdevice control_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "kvmtools",
	.fops = &control_operations,
};

static char *fault;
module_param(fault, charp, 0444);
MODULE_PARM_DESC(fault, "a bug to plant at once, by its name");

static int __init control_init(void)
{
	struct answer nobody = { .room = 0 };
	int error = fault ? fault_plant(fault, &nobody) : 0;

	if (!error)
		error = misc_register(&control_device);
	if (error)
		fault_undo(&nobody);
	return error;
}

static void __exit control_exit(void)
{
	struct answer nobody = { .room = 0 };

	misc_deregister(&control_device);
	fault_undo(&nobody);
	local_release_all();
	pages_free(&nobody);
}

module_init(control_init);
module_exit(control_exit);
MODULE_DESCRIPTION("kvmtools: real pkmap and kmap_local mappings on command");
MODULE_LICENSE("GPL");
