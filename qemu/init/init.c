// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's only program: mounts, loads our driver, and answers the host (qemu/README.md has the protocol).
 */
#include "channel.h"
#include "system.h"
#include "text.h"
#include "workload.h"

#define PROTOCOL "1"
#define CHUNK_BYTES 65536

static char chunk[CHUNK_BYTES];
static long driver_error;

static void read_file(struct channel *channel, char *arguments)
{
	char *path = next_word(&arguments), *from = next_word(&arguments), *length = next_word(&arguments);
	offset at = 0, left = ~0ULL;
	long fd, got = 0;

	if (*from && !(parse_number(from, &at) && parse_number(length, &left))) {
		reply_error(channel, EINVAL, "read PATH [OFFSET LENGTH]");
		return;
	}
	fd = sys_open(path, O_RDONLY | O_NONBLOCK);
	if (fd < 0) {
		reply_error(channel, fd, path);
		return;
	}
	while (left && !channel->lost) {
		size want = left < CHUNK_BYTES ? left : CHUNK_BYTES;

		/* Streams such as /proc/kmsg know no offset: only a request that names one uses it. */
		got = *from ? sys_pread(fd, chunk, want, at) : sys_read(fd, chunk, want);
		if (got <= 0)
			break;
		reply_data(channel, chunk, got);
		at += got;
		left -= got;
	}
	sys_close(fd);
	if (got < 0)
		reply_error(channel, got, path);
	else
		reply_ok(channel);
}

static void write_file(struct channel *channel, char *arguments)
{
	char *path = next_word(&arguments);
	long fd = sys_open(path, O_WRONLY | O_TRUNC), put;

	put = fd < 0 ? fd : sys_write(fd, arguments, text_length(arguments));
	if (fd >= 0)
		sys_close(fd);
	if (put < 0)
		reply_error(channel, put, path);
	else
		reply_ok(channel);
}

struct directory_entry { /* struct linux_dirent64 */
	offset inode;
	offset next;
	unsigned short bytes;
	unsigned char type;
	char name[];
} __attribute__((packed));

static void list_directory(struct channel *channel, char *arguments)
{
	char *path = next_word(&arguments);
	long fd = sys_open(path, O_RDONLY), got = fd, at;

	while (fd >= 0 && (got = call3(SYS_GETDENTS64, fd, chunk, CHUNK_BYTES)) > 0) {
		for (at = 0; at < got;) {
			struct directory_entry *entry = (struct directory_entry *)(chunk + at);

			reply_text(channel, entry->name);
			reply_text(channel, "\n");
			at += entry->bytes;
		}
	}
	if (fd >= 0)
		sys_close(fd);
	if (got < 0)
		reply_error(channel, got, path);
	else
		reply_ok(channel);
}

static void drive(struct channel *channel, char *arguments)
{
	long fd = sys_open("/dev/kvmtools", O_RDWR), got;

	if (fd < 0) {
		reply_error(channel, fd, "/dev/kvmtools");
		return;
	}
	got = sys_write(fd, arguments, text_length(arguments));
	while (got >= 0 && (got = sys_read(fd, chunk, CHUNK_BYTES)) > 0)
		reply_data(channel, chunk, got);
	sys_close(fd);
	if (got < 0)
		reply_error(channel, got, arguments);
	else
		reply_ok(channel);
}

static void quiesce(void)
{
	long fd;

	workload_quiesce();
	/* Folds every CPU's part of the counters into the zones (mm/vmstat.c): /proc/zoneinfo is exact then. */
	fd = sys_open("/proc/sys/vm/stat_refresh", O_WRONLY);
	if (fd >= 0) {
		sys_write(fd, "1", 1);
		sys_close(fd);
	}
}

static void workload(struct channel *channel, char *arguments)
{
	char *name = next_word(&arguments), *count = next_word(&arguments), *mebibytes = next_word(&arguments);
	offset workers = 2, each = 8;
	char alive[16];
	long error = 0;

	if (text_equal(name, "stop")) {
		workload_stop();
	} else if (text_equal(name, "quiesce")) {
		quiesce();
	} else if (text_equal(name, "status")) {
		add_text(add_number(alive, workload_reap()), "\n");
		reply_text(channel, alive);
	} else if ((*count && !parse_number(count, &workers)) || (*mebibytes && !parse_number(mebibytes, &each))) {
		error = -EINVAL;
	} else {
		error = workload_start(name, workers, each);
	}
	if (error)
		reply_error(channel, error, "workload NAME [WORKERS [MEBIBYTES]]");
	else
		reply_ok(channel);
}

static void version(struct channel *channel, char *arguments)
{
	static struct {
		char system[65], node[65], release[65], version[65], machine[65], domain[65];
	} name;
	char text[256];
	char *end;

	(void)arguments;
	call1(SYS_UNAME, &name);
	end = add_text(add_text(text, "protocol " PROTOCOL "\nkernel "), name.release);
	end = add_text(end, driver_error ? "\ndriver error " : "\ndriver ready");
	if (driver_error)
		end = add_number(end, -driver_error);
	add_text(end, "\n");
	reply_text(channel, text);
	reply_ok(channel);
}

static void synchronise(struct channel *channel, char *arguments)
{
	reply_text(channel, arguments);
	reply_ok(channel);
}

static void power_off(struct channel *channel, char *arguments)
{
	enum { MAGIC1 = 0xfee1dead, MAGIC2 = 672274793, POWER_OFF = 0x4321fedc };

	(void)arguments;
	workload_quiesce();
	reply_ok(channel);
	/* The line's last bytes must leave the chip before the chip goes. */
	pause_milliseconds(100);
	call3(SYS_REBOOT, MAGIC1, MAGIC2, POWER_OFF);
}

static const struct {
	const char *word;
	void (*obey)(struct channel *channel, char *arguments);
} commands[] = {
	{ "read", read_file },	   { "write", write_file }, { "list", list_directory }, { "driver", drive },
	{ "workload", workload },  { "version", version },  { "sync", synchronise },	{ "poweroff", power_off },
};

static void obey(struct channel *channel)
{
	char *arguments = channel->line;
	char *word = next_word(&arguments);
	size index;

	for (index = 0; index < sizeof(commands) / sizeof(commands[0]); index++) {
		if (text_equal(commands[index].word, word)) {
			commands[index].obey(channel, arguments);
			return;
		}
	}
	reply_error(channel, EINVAL, "no such command");
}

static const struct {
	const char *type, *at;
} mounts[] = {
	{ "devtmpfs", "/dev" }, { "proc", "/proc" }, { "sysfs", "/sys" }, { "debugfs", "/sys/kernel/debug" }, { "tmpfs", "/tmp" },
};

static void log_line(const char *text)
{
	long fd = sys_open("/dev/kmsg", O_WRONLY);

	if (fd >= 0) {
		sys_write(fd, text, text_length(text));
		sys_close(fd);
	}
}

#define OURS "kvmtools."

/* The kernel passes a parameter on to a module that is built in; to one that is loaded, the loader has to. */
static char *driver_parameters(void)
{
	static char line[LINE_BYTES], parameters[LINE_BYTES];
	long fd = sys_open("/proc/cmdline", O_RDONLY);
	char *rest = line, *end = parameters, *word;
	size index;

	if (fd >= 0) {
		sys_read(fd, line, sizeof(line) - 1);
		sys_close(fd);
	}
	for (index = 0; line[index]; index++)
		if (line[index] == '\n')
			line[index] = ' ';
	while (*(word = next_word(&rest))) {
		for (index = 0; OURS[index] && word[index] == OURS[index];)
			index++;
		if (!OURS[index])
			end = add_text(add_text(end, word + index), " ");
	}
	return parameters;
}

static void set_up(void)
{
	size index;
	long fd;

	for (index = 0; index < sizeof(mounts) / sizeof(mounts[0]); index++) {
		call2(SYS_MKDIR, mounts[index].at, 0755);
		call5(SYS_MOUNT, (long)mounts[index].type, (long)mounts[index].at, (long)mounts[index].type, 0, 0);
	}
	fd = sys_open("/kvmtools.ko", O_RDONLY);
	driver_error = fd < 0 ? fd : call3(SYS_FINIT_MODULE, fd, driver_parameters(), 0);
	if (fd >= 0)
		sys_close(fd);
	channel_open_all();
	log_line(driver_error ? "kvmtools: ready, but the driver did not load\n" : "kvmtools: ready\n");
}

__attribute__((noreturn, used)) static void run(void)
{
	set_up();
	for (;;) {
		struct channel *channel = channel_next();

		workload_reap();
		if (channel)
			obey(channel);
	}
}

__asm__(".globl _start\n"
	"_start:\n"
	"	xorl %ebp, %ebp\n"
	"	andl $-16, %esp\n"
	"	call run\n");
