// SPDX-License-Identifier: GPL-2.0-or-later
#include "text.h"
#include "workload.h"

enum { PAGE = 4096, MEBIBYTE = 1 << 20, WORKERS = 64, WNOHANG = 1, SIGKILL = 9, MREMAP_MAYMOVE = 1 };
enum { PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20, MAP_NORESERVE = 0x4000 };

static int workers[WORKERS];

struct worker {
	size bytes;
	unsigned int random;
	char path[32]; /* its file on the tmpfs */
};

/* xorshift: the same worker does the same things on every boot. */
static unsigned int draw(struct worker *worker, unsigned int below)
{
	worker->random ^= worker->random << 13;
	worker->random ^= worker->random >> 17;
	worker->random ^= worker->random << 5;
	return worker->random % below;
}

static char *map(size bytes, int flags, int fd)
{
	/* The old mmap call takes its six arguments from memory. */
	long arguments[6] = { 0, bytes, PROT_READ | PROT_WRITE, flags, fd, 0 };
	long address = call1(SYS_OLD_MMAP, arguments);

	return (unsigned long)address >= -4095UL ? 0 : (char *)address;
}

static void unmap(char *address, size bytes)
{
	call2(SYS_MUNMAP, address, bytes);
}

static void touch(char *address, size bytes, size stride)
{
	size at;

	for (at = 0; at < bytes; at += stride)
		((volatile char *)address)[at] = at >> 12;
}

static char *map_anonymous(size bytes)
{
	return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
}

/* Map, touch, protect a part, let go of it, move and grow the rest. */
static void round_anonymous(struct worker *worker)
{
	size quarter = worker->bytes / 4 & ~(PAGE - 1);
	char *area = map_anonymous(worker->bytes), *moved;

	if (!area)
		return;
	touch(area, worker->bytes, PAGE);
	call3(SYS_MPROTECT, area + quarter, quarter, PROT_READ);
	unmap(area + 2 * quarter, quarter);
	moved = (char *)call4(SYS_MREMAP, area, quarter, 2 * quarter, MREMAP_MAYMOVE);
	if ((unsigned long)moved < -4095UL) {
		touch(moved, 2 * quarter, PAGE << draw(worker, 3));
		unmap(moved, 2 * quarter);
	}
	unmap(area, worker->bytes);
}

/* Share everything with a child, then write to some of it on both sides. */
static void round_fork(struct worker *worker)
{
	char *area = map_anonymous(worker->bytes);
	long child;

	if (!area)
		return;
	touch(area, worker->bytes, PAGE);
	child = sys_fork();
	touch(area, worker->bytes, PAGE << (1 + draw(worker, 3)));
	if (child == 0)
		sys_exit(0);
	if (child > 0)
		sys_wait(child, 0);
	unmap(area, worker->bytes);
}

/* A file in memory: written, mapped, touched, deleted while mapped. */
static void round_tmpfs(struct worker *worker)
{
	static char page[16 * PAGE];
	int fd = sys_open(worker->path, O_RDWR | O_CREAT | O_TRUNC);
	char *area;
	size at;

	if (fd < 0)
		return;
	for (at = 0; at < worker->bytes / 2; at += sizeof(page))
		sys_write(fd, page, sizeof(page));
	call2(SYS_FTRUNCATE, fd, worker->bytes);
	area = map(worker->bytes, MAP_SHARED, fd);
	call1(SYS_UNLINK, worker->path);
	/* Past the part that was written, the pages come into being by the touch. */
	if (area) {
		touch(area, worker->bytes * 3 / 4, PAGE << draw(worker, 3));
		unmap(area, worker->bytes);
	}
	sys_close(fd);
}

/* Pages that travel through a pipe to a child. */
static void round_pipe(struct worker *worker)
{
	static char page[4 * PAGE];
	int ends[2];
	size left;
	long child;

	if (call1(SYS_PIPE, ends) < 0)
		return;
	child = sys_fork();
	if (child == 0) {
		sys_close(ends[1]);
		while (sys_read(ends[0], page, sizeof(page)) > 0)
			;
		sys_exit(0);
	}
	sys_close(ends[0]);
	if (child > 0)
		for (left = worker->bytes / 4; left > sizeof(page); left -= sizeof(page))
			sys_write(ends[1], page, sizeof(page) - draw(worker, PAGE));
	sys_close(ends[1]);
	if (child > 0)
		sys_wait(child, 0);
}

/* Memory that holds still once it is there: shared with a child, which has copies of every other page of a half. */
static void round_hold(struct worker *worker)
{
	char *area = map_anonymous(worker->bytes);

	if (area) {
		touch(area, worker->bytes, PAGE);
		if (sys_fork() == 0)
			touch(area, worker->bytes / 2, 2 * PAGE);
	}
	for (;;)
		call1(SYS_PAUSE, 0);
}

typedef void (*round)(struct worker *);

static const struct {
	const char *name;
	round rounds[5];
} workloads[] = {
	{ "anonymous", { round_anonymous } },
	{ "fork", { round_fork } },
	{ "tmpfs", { round_tmpfs } },
	{ "pipe", { round_pipe } },
	{ "hold", { round_hold } },
	{ "mixed", { round_anonymous, round_fork, round_tmpfs, round_pipe } },
};

enum { WORKLOADS = sizeof(workloads) / sizeof(workloads[0]) };

static void work(int number, const round *rounds, size bytes)
{
	struct worker worker = { .bytes = bytes, .random = 2463534242u + number };
	int next = number;

	add_number(add_text(worker.path, "/tmp/worker."), number);
	for (;; next++) {
		if (!rounds[next % 5])
			next = next / 5 * 5 + 5;
		rounds[next % 5](&worker);
	}
}

int workload_reap(void)
{
	int number, alive = 0;
	long dead;

	while ((dead = sys_wait(-1, WNOHANG)) > 0)
		for (number = 0; number < WORKERS; number++)
			if (workers[number] == dead)
				workers[number] = 0;
	for (number = 0; number < WORKERS; number++)
		alive += workers[number] != 0;
	return alive;
}

long workload_start(const char *name, int count, int mebibytes)
{
	int index = 0, number;

	while (index < WORKLOADS && !text_equal(workloads[index].name, name))
		index++;
	if (index == WORKLOADS)
		return -ENOENT;
	if (count < 1 || count > WORKERS || mebibytes < 1 || mebibytes > 1024)
		return -EINVAL;
	if (workload_reap())
		return -EBUSY;
	for (number = 0; number < count; number++) {
		long pid = sys_fork();

		if (pid == 0)
			work(number, workloads[index].rounds, (size)mebibytes * MEBIBYTE);
		if (pid < 0) {
			workload_quiesce();
			return pid;
		}
		/* A group of its own: a worker is killed together with the child it may have. */
		call2(SYS_SETPGID, pid, pid);
		workers[number] = pid;
	}
	return 0;
}

void workload_stop(void)
{
	int number;

	for (number = 0; number < WORKERS; number++)
		if (workers[number])
			sys_kill(-workers[number], SIGKILL);
}

void workload_quiesce(void)
{
	int number;

	workload_stop();
	while (sys_wait(-1, 0) != -ECHILD)
		;
	for (number = 0; number < WORKERS; number++)
		workers[number] = 0;
}
