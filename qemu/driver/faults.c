// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bugs on command: what a fault of the kernel's would leave in its memory, for a check to find.
 *
 * A fault is one word in the wrong state, and a line of the table: what it is called, and who finds the word and what
 * becomes of it.  Wherever one can, it takes a page of its own, so that the kernel runs on with it; stale TLB entries
 * are no matter, what is looked at are the tables.  One fault at a time: so what is found is what was planted.
 */
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include <asm/pgtable.h>
#include <asm/pgtable_areas.h> /* LAST_PKMAP, as in pages.c */
#include <asm/set_memory.h>

#include "kvmtools.h"

#define FREE_ORDER 5 /* above what the per-CPU lists take: it goes back to the buddy system at once */
#define ORDER_MAX 10

static struct planted {
	const struct fault *fault;
	void *place;
	unsigned int bytes; /* 4, or 8 for an entry of a PAE table */
	u64 before, after;
	bool counts;		/* the kernel counts here meanwhile: undone by the difference */
	struct page *head;	/* of a free block: to be left alone once it is none */
	struct page *pages[2];	/* ours */
	void *slots[2];		/* where kmap() has them, or NULL */
	void *area;		/* ours, by vmalloc() */
} planted;

struct fault {
	const char *name;
	const char *what;
	int (*find)(struct planted *plan); /* fills in what there is; whatever it returns, pages and area are given back */
};

static int lowmem_page(struct planted *plan)
{
	plan->pages[0] = alloc_page(GFP_KERNEL);
	return plan->pages[0] ? 0 : -ENOMEM;
}

/* A page of ours with a slot of pkmap; returns its address, or NULL. */
static void *mapped_page(struct planted *plan, unsigned int index)
{
	plan->pages[index] = highmem_page();
	if (plan->pages[index])
		plan->slots[index] = kmap(plan->pages[index]);
	return plan->slots[index];
}

static void give_back(struct planted *plan)
{
	unsigned int index = ARRAY_SIZE(plan->pages);

	while (index--) {
		if (!plan->pages[index])
			continue;
		if (plan->slots[index])
			kunmap(plan->pages[index]);
		__free_page(plan->pages[index]);
	}
	vfree(plan->area);
}

static void word(struct planted *plan, void *place, u32 after)
{
	plan->place = place;
	plan->bytes = sizeof(u32);
	plan->before = READ_ONCE(*(u32 *)place);
	plan->after = after;
}

static int entry(struct planted *plan, pte_t *place, pte_t after)
{
	plan->place = place;
	plan->bytes = sizeof(pte_t);
	plan->before = pte_val(*place);
	plan->after = pte_val(after);
	return 0;
}

/* The leaf of swapper_pg_dir that maps an address, with some flags set and some cleared. */
static int leaf(struct planted *plan, const void *address, pteval_t set, pteval_t clear)
{
	unsigned int level;
	pte_t *place = lookup_address((unsigned long)address, &level);

	if (!place)
		return -EFAULT;
	return entry(plan, place, __pte((pte_val(*place) & ~clear) | set));
}

static int slot_emptied(struct planted *plan)
{
	void *address = mapped_page(plan, 0);

	return address ? leaf(plan, address, 0, ~(pteval_t)0) : -ENOMEM;
}

static int slot_left_behind(struct planted *plan)
{
	struct answer nobody = { .room = 0 };
	unsigned int level, slot;

	/* The page may have had a slot in another life, and would be found in two. */
	if (pages_flush(&nobody))
		return -ENOMEM;
	plan->pages[0] = highmem_page();
	if (!plan->pages[0])
		return -ENOMEM;
	for (slot = LAST_PKMAP; slot--;) {
		pte_t *place = lookup_address(PKMAP_ADDR(slot), &level);

		if (place && pte_none(*place))
			return entry(plan, place, mk_pte(plan->pages[0], PAGE_KERNEL));
	}
	return -ENOSPC;
}

static int slot_read_only(struct planted *plan)
{
	void *address = mapped_page(plan, 0);

	return address ? leaf(plan, address, 0, _PAGE_RW) : -ENOMEM;
}

static int slot_of_another(struct planted *plan)
{
	void *first = mapped_page(plan, 0), *second = first ? mapped_page(plan, 1) : NULL;
	unsigned int level;

	if (!second)
		return -ENOMEM;
	return entry(plan, lookup_address((unsigned long)second, &level),
		     *lookup_address((unsigned long)first, &level));
}

static int mapped_page_put(struct planted *plan)
{
	if (!mapped_page(plan, 0))
		return -ENOMEM;
	word(plan, &plan->pages[0]->_refcount, 0);
	return 0;
}

static int text_writable(struct planted *plan)
{
	return leaf(plan, schedule, _PAGE_RW, 0);
}

/* A page of ours and its leaf.  Attributes of its own and back: a large page around it is split, and what happens to the
 * leaf happens to nobody else; open to user mode, a large page would be closed to the kernel by SMAP. */
static int lowmem_leaf(struct planted *plan, pteval_t set, pteval_t clear)
{
	int error = lowmem_page(plan);

	if (!error)
		error = set_pages_uc(plan->pages[0], 1);
	if (!error)
		error = set_pages_wb(plan->pages[0], 1);
	return error ?: leaf(plan, page_address(plan->pages[0]), set, clear);
}

static int lowmem_executable(struct planted *plan)
{
	return __supported_pte_mask & _PAGE_NX ? lowmem_leaf(plan, 0, _PAGE_NX) : -EOPNOTSUPP;
}

static int vmalloc_executable(struct planted *plan)
{
	if (!(__supported_pte_mask & _PAGE_NX))
		return -EOPNOTSUPP;
	plan->area = vmalloc(PAGE_SIZE);
	return plan->area ? leaf(plan, plan->area, 0, _PAGE_NX) : -ENOMEM;
}

static int lowmem_for_users(struct planted *plan)
{
	return lowmem_leaf(plan, _PAGE_USER, 0);
}

static int lowmem_unmapped(struct planted *plan)
{
	return lowmem_leaf(plan, 0, _PAGE_PRESENT);
}

static int table_put(struct planted *plan)
{
	unsigned int level;
	pte_t *table = lookup_address(PKMAP_ADDR(0), &level);

	if (!table)
		return -EFAULT;
	word(plan, &virt_to_page(table)->_refcount, 0);
	return 0;
}

static int zone_of_another(struct planted *plan)
{
	u32 *flags;

	if (lowmem_page(plan))
		return -ENOMEM;
	flags = (u32 *)&plan->pages[0]->flags;
	word(plan, flags, *flags ^ 1u << ZONES_PGSHIFT);
	return 0;
}

static int page_put_too_often(struct planted *plan)
{
	if (lowmem_page(plan))
		return -ENOMEM;
	word(plan, &plan->pages[0]->_refcount, -1);
	return 0;
}

static int free_page_referenced(struct planted *plan)
{
	struct page *page = alloc_pages(GFP_HIGHUSER | __GFP_NORETRY | __GFP_NOWARN, FREE_ORDER), *head;
	unsigned int order;

	if (!page)
		return -ENOMEM;
	__free_pages(page, FREE_ORDER);
	for (order = FREE_ORDER; order <= ORDER_MAX; order++) {
		head = pfn_to_page(page_to_pfn(page) & -1ul << order);
		if (PageBuddy(head) && page_private(head) >= order) {
			plan->head = head;
			word(plan, &head->_refcount, 1);
			return 0;
		}
	}
	return -EAGAIN;
}

static int block_miscounted(struct planted *plan)
{
	unsigned long *nr_free;

	if (lowmem_page(plan))
		return -ENOMEM;
	nr_free = &page_zone(plan->pages[0])->free_area[FREE_ORDER].nr_free;
	word(plan, nr_free, *nr_free + 1);
	plan->counts = true;
	return 0;
}

static int zone_miscounted(struct planted *plan)
{
	unsigned long *present;

	if (lowmem_page(plan))
		return -ENOMEM;
	present = &page_zone(plan->pages[0])->present_pages;
	word(plan, present, *present - 1);
	plan->counts = true;
	return 0;
}

static const struct fault faults[] = {
	{ "slot-emptied", "the PTE of a pkmap slot in use is cleared", slot_emptied },
	{ "slot-left-behind", "an unused pkmap slot keeps a PTE", slot_left_behind },
	{ "slot-read-only", "a pkmap slot is mapped without RW", slot_read_only },
	{ "slot-of-another", "two pkmap slots lead to one page", slot_of_another },
	{ "mapped-page-put", "a page with a kmap() user loses its last reference", mapped_page_put },
	{ "text-writable", "kernel text is mapped writable", text_writable },
	{ "lowmem-executable", "data in lowmem is mapped executable (needs NX)", lowmem_executable },
	{ "vmalloc-executable", "a vmalloc area is writable and executable (needs NX)", vmalloc_executable },
	{ "lowmem-for-users", "lowmem is mapped for user mode", lowmem_for_users },
	{ "lowmem-unmapped", "a lowmem page is not mapped", lowmem_unmapped },
	{ "table-put", "a page table in use loses its last reference", table_put },
	{ "zone-of-another", "a page says that it is in another zone", zone_of_another },
	{ "page-put-too-often", "a page's reference count is negative", page_put_too_often },
	{ "free-page-referenced", "a free block's first page has a reference", free_page_referenced },
	{ "block-miscounted", "a zone counts a free block too many", block_miscounted },
	{ "zone-miscounted", "a zone counts a present page too few", zone_miscounted },
};

static void store(const struct planted *plan, u64 value)
{
	if (plan->bytes == sizeof(u32))
		WRITE_ONCE(*(u32 *)plan->place, value);
	else
		set_pte((pte_t *)plan->place, __pte(value));
}

static u64 load(const struct planted *plan)
{
	return plan->bytes == sizeof(u32) ? READ_ONCE(*(u32 *)plan->place) : pte_val(*(pte_t *)plan->place);
}

static void describe(struct answer *answer)
{
	answer_add(answer, "fault %s: %u bytes at %#lx were %#llx, are %#llx\n", planted.fault->name, planted.bytes,
		   (unsigned long)planted.place, planted.before, planted.after);
}

int fault_plant(const char *name, struct answer *answer)
{
	struct planted plan = { NULL };
	unsigned int index;
	int error;

	for (index = 0; index < ARRAY_SIZE(faults); index++)
		if (!strcmp(faults[index].name, name))
			plan.fault = &faults[index];
	if (!plan.fault)
		return -EINVAL;
	if (planted.fault)
		return -EALREADY;
	error = plan.fault->find(&plan);
	if (error) {
		give_back(&plan);
		return error;
	}
	planted = plan;
	store(&planted, planted.after);
	describe(answer);
	return 0;
}

/* What the kernel has written over since is left as it is. */
int fault_undo(struct answer *answer)
{
	if (!planted.fault)
		return -ENODATA;
	if (planted.counts)
		store(&planted, load(&planted) + planted.before - planted.after);
	else if (!planted.head || PageBuddy(planted.head))
		store(&planted, planted.before);
	give_back(&planted);
	answer_add(answer, "fault %s undone\n", planted.fault->name);
	planted.fault = NULL;
	return 0;
}

void fault_list(struct answer *answer)
{
	unsigned int index;

	for (index = 0; index < ARRAY_SIZE(faults); index++)
		answer_add(answer, "%s: %s\n", faults[index].name, faults[index].what);
}

void fault_status(struct answer *answer)
{
	if (planted.fault)
		describe(answer);
}
