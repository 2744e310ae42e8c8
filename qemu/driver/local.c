// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Threads that hold nested kmap_local_page() mappings, at most one on each CPU.
 *
 * A local mapping is in the page tables only while its task runs (mm/highmem.c, __kmap_local_sched_out), so
 * the thread must keep its CPU.  It gives way five times a second, for as long as others need, and ends by itself
 * after half a minute: a guest is never wedged by it.  Where a mapping is the CPU's, it is let go while others run.
 */
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/sched.h>

#include "kvmtools.h"

#define DEPTH_MAX 8 /* of KM_MAX_IDX, 16 in 6.1: interrupts need some too */
#define HOLD_JIFFIES (30 * HZ)
#define GIVE_WAY_JIFFIES (HZ / 5)

struct holder {
	struct task_struct *task;
	struct page *pages[DEPTH_MAX];
	void *addresses[DEPTH_MAX];
	unsigned int depth;
	struct completion mapped;
};

static struct holder holders[NR_CPUS];

static void map_all(struct holder *holder)
{
	unsigned int level;

	for (level = 0; level < holder->depth; level++)
		holder->addresses[level] = kmap_local_page(holder->pages[level]);
}

static void unmap_all(struct holder *holder)
{
	unsigned int level = holder->depth;

	while (level--) {
		kunmap_local(holder->addresses[level]);
		holder->addresses[level] = NULL;
	}
}

static void give_way(struct holder *holder)
{
	if (LOCAL_KEEPS_CPU)
		unmap_all(holder);
	cond_resched();
	if (LOCAL_KEEPS_CPU)
		map_all(holder);
}

static int hold(void *data)
{
	struct holder *holder = data;
	unsigned long end = jiffies + HOLD_JIFFIES, next = jiffies + GIVE_WAY_JIFFIES;

	map_all(holder);
	complete(&holder->mapped);

	while (!kthread_should_stop() && time_before(jiffies, end)) {
		cpu_relax();
		if (time_after(jiffies, next)) {
			give_way(holder);
			next = jiffies + GIVE_WAY_JIFFIES;
		}
	}
	unmap_all(holder);

	/* kthread_stop() needs a task that is still there. */
	set_current_state(TASK_INTERRUPTIBLE);
	while (!kthread_should_stop()) {
		schedule();
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static void release(struct holder *holder)
{
	if (holder->task) {
		kthread_stop(holder->task);
		holder->task = NULL;
	}
	while (holder->depth)
		__free_page(holder->pages[--holder->depth]);
}

int local_hold(unsigned int cpu, unsigned int depth, struct answer *answer)
{
	struct holder *holder;
	struct task_struct *task;
	unsigned int level;

	if (cpu >= nr_cpu_ids || !cpu_online(cpu) || depth > DEPTH_MAX)
		return -ERANGE;
	holder = &holders[cpu];
	release(holder);
	while (holder->depth < depth) {
		struct page *page = highmem_page();

		if (!page) {
			release(holder);
			return -ENOMEM;
		}
		holder->pages[holder->depth++] = page;
	}
	if (depth) {
		init_completion(&holder->mapped);
		task = kthread_create_on_node(hold, holder, NUMA_NO_NODE, "kvmtools/%u", cpu);
		if (IS_ERR(task)) {
			release(holder);
			return PTR_ERR(task);
		}
		kthread_bind(task, cpu);
		holder->task = task;
		wake_up_process(task);
		wait_for_completion(&holder->mapped);
	}
	for (level = 0; level < depth; level++)
		answer_add(answer, "local %u level %u pfn %#lx address %#lx\n", cpu, level,
			   page_to_pfn(holder->pages[level]), (unsigned long)holder->addresses[level]);
	if (!depth)
		answer_add(answer, "local %u released\n", cpu);
	return 0;
}

void local_release_all(void)
{
	unsigned int cpu;

	for_each_possible_cpu(cpu)
		release(&holders[cpu]);
}

void local_status(struct answer *answer)
{
	unsigned int cpu, level;

	for_each_possible_cpu(cpu)
		for (level = 0; level < holders[cpu].depth; level++)
			answer_add(answer, "local %u level %u pfn %#lx address %#lx\n", cpu, level,
				   page_to_pfn(holders[cpu].pages[level]),
				   (unsigned long)READ_ONCE(holders[cpu].addresses[level]));
}
