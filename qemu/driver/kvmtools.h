/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * kvmtools' guest driver: it puts highmem pages into the kernel's temporary mappings and holds them there,
 * so that pkmap slots, the page-address hash and the fixmap slots have something real to be checked against.
 *
 * control.c  /dev/kvmtools: one command per write, its answer on the next read
 * faults.c   bugs on command, one at a time
 * local.c    threads that hold kmap_local_page() mappings, each on a CPU of its own
 * pages.c    a set of pages and their kmap() users
 * answer.c   the text that grows while a command is carried out
 *
 * Each uses those below it and none above.
 */
#ifndef KVMTOOLS_H
#define KVMTOOLS_H

#include <linux/highmem.h>
#include <linux/types.h>
#include <linux/version.h>

/* Before 5.11 the nested mappings belong to the CPU, not to the task: whoever holds one must not give the CPU away. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define LOCAL_KEEPS_CPU 1
#define kmap_local_page kmap_atomic
#define kunmap_local kunmap_atomic
#else
#define LOCAL_KEEPS_CPU 0
#endif

/* A command's answer: text that grows, up to a bound far above what any command says. */
struct answer {
	char *text;
	size_t length;
	size_t room;
};

#define ANSWER_BYTES (256 * 1024)

__printf(2, 3) void answer_add(struct answer *answer, const char *format, ...);

/* A zeroed highmem page or NULL: a lowmem page has its address already and would never see a slot. */
struct page *highmem_page(void);

/* Every command returns 0 or a negative errno.  The caller holds the control lock. */
int pages_alloc(unsigned int count, struct answer *answer);
int pages_free(struct answer *answer);
int pages_kmap(unsigned int index, unsigned int times, struct answer *answer);
int pages_kunmap(unsigned int index, unsigned int times, struct answer *answer);
int pages_cycle(unsigned int count, struct answer *answer);
int pages_flush(struct answer *answer);
int pages_mix(unsigned int slots, struct answer *answer);
void pages_status(struct answer *answer);

int local_hold(unsigned int cpu, unsigned int depth, struct answer *answer);
void local_release_all(void);
void local_status(struct answer *answer);

int fault_plant(const char *name, struct answer *answer);
int fault_undo(struct answer *answer);
void fault_list(struct answer *answer);
void fault_status(struct answer *answer);

#endif
