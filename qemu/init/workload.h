/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes that keep memory management busy until they are told to stop. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include "system.h"

/* Start `workers` processes of `mebibytes` each; returns 0 or a negative errno. */
long workload_start(const char *name, int workers, int mebibytes);

/* Kill them all, but do not wait for them. */
void workload_stop(void);

/* Kill them all and wait until no process but init is left. */
void workload_quiesce(void);

/* Collect the dead (init inherits everybody's children) and return how many workers are alive. */
int workload_reap(void);

#endif
