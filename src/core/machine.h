/* SPDX-License-Identifier: Apache-2.0 */
/* core/machine.h - limits of the control group, with the places to look as arguments so that tests can make some.
 *
 * v2: <mount>/<path>/cpu.max ("quota period" in us, or "max") and memory.max.
 * v1: <mount>/cpu/<path>/cpu.cfs_quota_us, cpu.cfs_period_us and <mount>/memory/<path>/memory.limit_in_bytes.
 * A limit of any ancestor binds, and in a container <path> may be the host's while <mount> shows the container's
 * own group: every ancestor up to the mount is read, files that are not there are passed over.
 * Source: Linux Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/, scheduler/sched-bwc.rst. */
#ifndef LT_CORE_MACHINE_H
#define LT_CORE_MACHINE_H

#include "core/core.h"

/* mount: "/sys/fs/cgroup"; self: "/proc/self/cgroup" */
int lt_cgroup_cpus(const char *mount, const char *self);      /* quota / period rounded up; INT_MAX: no limit */
size_t lt_cgroup_memory(const char *mount, const char *self); /* bytes; SIZE_MAX: no limit */

#endif
