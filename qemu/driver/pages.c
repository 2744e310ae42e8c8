// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A set of highmem pages and their kmap() users (mm/highmem.c: pkmap_count is users + 1, a slot keeps the
 * count 1 after its last user until the next flush).
 */
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include <asm/pgtable_areas.h> /* LAST_PKMAP; before 5.11 highmem.h does not bring it */
#include <asm/set_memory.h>

#include "kvmtools.h"

#define PAGES_MAX 4096
#define TAG 0x6b766d00u /* "kvm": the first word of page pfn is TAG ^ pfn */

/* kmap() sleeps when no slot is left, with the control lock held: some stay free for the rest of the kernel. */
#define SLOTS_SPARED 32

struct held_page {
	struct page *page;
	void *address;
	unsigned int users;
};

static struct held_page *held;
static unsigned int held_count;
static unsigned int slots_used;

static void tag(struct page *page)
{
	u32 *words = kmap_local_page(page);

	words[0] = TAG ^ page_to_pfn(page);
	kunmap_local(words);
}

static void put_users(struct held_page *entry, unsigned int times)
{
	while (times--) {
		kunmap(entry->page);
		entry->users--;
	}
	if (!entry->users) {
		entry->address = NULL;
		slots_used--;
	}
}

static int add_users(struct held_page *entry, unsigned int times)
{
	if (!entry->users) {
		if (slots_used >= LAST_PKMAP - SLOTS_SPARED)
			return -EBUSY;
		slots_used++;
	}
	while (times--) {
		entry->address = kmap(entry->page);
		entry->users++;
	}
	return 0;
}

static void describe(unsigned int index, struct answer *answer)
{
	const struct held_page *entry = &held[index];

	answer_add(answer, "page %u pfn %#lx page %#lx address %#lx users %u\n", index, page_to_pfn(entry->page),
		   (unsigned long)entry->page, (unsigned long)entry->address, entry->users);
}

struct page *highmem_page(void)
{
	struct page *page = alloc_page(GFP_HIGHUSER | __GFP_NORETRY | __GFP_NOWARN | __GFP_ZERO);

	if (page && !PageHighMem(page)) {
		__free_page(page);
		return NULL;
	}
	return page;
}

int pages_free(struct answer *answer)
{
	unsigned int index;

	for (index = 0; index < held_count; index++) {
		if (held[index].users)
			put_users(&held[index], held[index].users);
		__free_page(held[index].page);
	}
	answer_add(answer, "freed %u\n", held_count);
	kvfree(held);
	held = NULL;
	held_count = 0;
	return 0;
}

int pages_alloc(unsigned int count, struct answer *answer)
{
	struct answer nobody = { .room = 0 };

	if (!count || count > PAGES_MAX)
		return -ERANGE;
	if (held)
		return -EEXIST;
	held = kvcalloc(count, sizeof(*held), GFP_KERNEL);
	if (!held)
		return -ENOMEM;
	for (; held_count < count; held_count++) {
		struct page *page = highmem_page();

		if (!page) {
			pages_free(&nobody);
			return -ENOMEM;
		}
		tag(page);
		held[held_count].page = page;
	}
	answer_add(answer, "allocated %u\n", held_count);
	return 0;
}

int pages_kmap(unsigned int index, unsigned int times, struct answer *answer)
{
	int error;

	if (index >= held_count || !times || times > 1000)
		return -ERANGE;
	error = add_users(&held[index], times);
	if (!error)
		describe(index, answer);
	return error;
}

int pages_kunmap(unsigned int index, unsigned int times, struct answer *answer)
{
	if (index >= held_count || !times || times > held[index].users)
		return -ERANGE;
	put_users(&held[index], times);
	describe(index, answer);
	return 0;
}

/*
 * All pages are held until the last one was mapped: given back at once, the allocator would hand out the same
 * page again, and a page that still has its address takes no new slot.
 */
int pages_cycle(unsigned int count, struct answer *answer)
{
	struct page *page, *next;
	LIST_HEAD(pages);
	unsigned int done;
	int error = 0;

	if (!count || count > PAGES_MAX)
		return -ERANGE;
	for (done = 0; done < count; done++) {
		page = highmem_page();
		if (!page) {
			error = -ENOMEM;
			break;
		}
		list_add(&page->lru, &pages);
		kmap(page);
		kunmap(page);
		cond_resched();
	}
	list_for_each_entry_safe(page, next, &pages, lru) {
		list_del(&page->lru);
		__free_page(page);
	}
	if (!error)
		answer_add(answer, "cycled %u of %u slots\n", done, LAST_PKMAP);
	return error;
}

/* Every change of page attributes calls kmap_flush_unused() (arch/x86/mm/pat/set_memory.c). */
int pages_flush(struct answer *answer)
{
	struct page *page = alloc_page(GFP_KERNEL);
	int error;

	if (!page)
		return -ENOMEM;
	error = set_pages_uc(page, 1);
	if (!error)
		error = set_pages_wb(page, 1);
	__free_page(page);
	if (!error)
		answer_add(answer, "flushed\n");
	return error;
}

/* Page I of the mix: how many users it gets before the flush, and how many after it. */
static const struct {
	unsigned int before;
	unsigned int after;
} mix_users[] = {
	{ 1, 1 }, /* count 2 */
	{ 1, 0 }, /* count 1: its last user left after the flush */
	{ 3, 3 }, /* count 4 */
	{ 2, 1 }, /* count 2, by way of 3 */
	{ 1, 0 },
	{ 6, 5 }, /* count 6 */
	{ 1, 1 },
	{ 0, 0 }, /* mapped and left before the flush: count 0 */
};

int pages_mix(unsigned int slots, struct answer *answer)
{
	struct answer nobody = { .room = 0 };
	unsigned int wanted = slots + slots / (ARRAY_SIZE(mix_users) - 1) + 1;
	unsigned int index, used = 0;
	int error;

	if (!slots || wanted > LAST_PKMAP - SLOTS_SPARED)
		return -ERANGE;
	pages_free(&nobody);
	error = pages_cycle(LAST_PKMAP + LAST_PKMAP / 4, &nobody);
	if (!error)
		error = pages_alloc(wanted, &nobody);
	if (error)
		return error;

	for (index = 0; index < wanted; index++) {
		unsigned int before = mix_users[index % ARRAY_SIZE(mix_users)].before;

		error = add_users(&held[index], max(before, 1u));
		if (error)
			return error;
		if (!before)
			put_users(&held[index], 1);
	}
	error = pages_flush(&nobody);
	if (error)
		return error;
	for (index = 0; index < wanted; index++) {
		unsigned int after = mix_users[index % ARRAY_SIZE(mix_users)].after;

		if (held[index].users > after)
			put_users(&held[index], held[index].users - after);
		used += mix_users[index % ARRAY_SIZE(mix_users)].before != 0;
	}
	answer_add(answer, "mixed %u slots of %u\n", used, LAST_PKMAP);
	return 0;
}

void pages_status(struct answer *answer)
{
	unsigned int index;

	answer_add(answer, "pages %u slots %u of %u\n", held_count, slots_used, LAST_PKMAP);
	for (index = 0; index < held_count; index++)
		describe(index, answer);
}
