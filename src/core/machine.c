/* SPDX-License-Identifier: Apache-2.0 */
#include "core/machine.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* First two numbers of a file; "max" and negative ones (v1: no quota) become infinite. Returns how many. */
static int read_numbers(const char *path, double out[2]) {
    FILE *f = fopen(path, "re");
    char word[2][32];
    if (!f) return 0;
    const int n = fscanf(f, "%31s %31s", word[0], word[1]);
    fclose(f);
    for (int i = 0; i < n; i++) {
        out[i] = strcmp(word[i], "max") == 0 ? HUGE_VAL : strtod(word[i], NULL);
        if (out[i] < 0) out[i] = HUGE_VAL;
    }
    return n < 0 ? 0 : n;
}

static double file_cpus_v2(const char *folder) {
    char path[PATH_MAX + 32];
    double v[2];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    return read_numbers(path, v) == 2 && v[1] > 0 ? v[0] / v[1] : HUGE_VAL;
}

static double file_cpus_v1(const char *folder) {
    char path[PATH_MAX + 32];
    double quota[2], period[2];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (read_numbers(path, quota) < 1) return HUGE_VAL;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (read_numbers(path, period) < 1 || !(period[0] > 0)) return HUGE_VAL;
    return quota[0] / period[0];
}

static double file_memory_v2(const char *folder) {
    char path[PATH_MAX + 32];
    double v[2];
    snprintf(path, sizeof path, "%s/memory.max", folder);
    return read_numbers(path, v) >= 1 ? v[0] : HUGE_VAL;
}

static double file_memory_v1(const char *folder) {
    char path[PATH_MAX + 32];
    double v[2];
    snprintf(path, sizeof path, "%s/memory.limit_in_bytes", folder);
    return read_numbers(path, v) >= 1 ? v[0] : HUGE_VAL;
}

/* Smallest value of read() from mount/sub/group up to mount/sub. */
static double smallest(double (*read)(const char *), const char *mount, const char *sub, const char *group) {
    char folder[PATH_MAX];
    const int head = snprintf(folder, sizeof folder, "%s%s", mount, sub);
    const int n = snprintf(folder, sizeof folder, "%s%s%s", mount, sub, group);
    if (head < 0 || n < 0 || (size_t)n >= sizeof folder) return HUGE_VAL;
    double least = HUGE_VAL;
    for (size_t end = (size_t)n; end >= (size_t)head; end--) {
        if (end > (size_t)head && folder[end] != '/' && folder[end] != 0) continue;
        folder[end] = 0;
        least = fmin(least, read(folder));
        if (end == 0) break;
    }
    return least;
}

static bool has_word(const char *list, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = list; p; p = (p = strchr(p, ',')) ? p + 1 : NULL)
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == 0)) return true;
    return false;
}

/* Lines of /proc/self/cgroup: "0::/path" for v2, "4:cpu,cpuacct:/path" for v1. */
static double limit(const char *mount, const char *self, const char *controller, double (*v2)(const char *),
                    double (*v1)(const char *)) {
    char line[PATH_MAX + 64], sub[32];
    double least = HUGE_VAL;
    FILE *f = fopen(self, "re");
    if (!f) return least;
    snprintf(sub, sizeof sub, "/%s", controller);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *names = strchr(line, ':');
        char *group = names ? strchr(names + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        names++;
        if (*names == 0) least = fmin(least, smallest(v2, mount, "", group));
        if (has_word(names, controller)) least = fmin(least, smallest(v1, mount, sub, group));
    }
    fclose(f);
    return least;
}

int lt_cgroup_cpus(const char *mount, const char *self) {
    const double cpus = ceil(limit(mount, self, "cpu", file_cpus_v2, file_cpus_v1));
    return cpus >= INT_MAX ? INT_MAX : cpus < 1 ? 1 : (int)cpus;
}

size_t lt_cgroup_memory(const char *mount, const char *self) {
    const double bytes = limit(mount, self, "memory", file_memory_v2, file_memory_v1);
    return bytes >= 0x1p62 ? SIZE_MAX : (size_t)bytes; /* v1 writes "no limit" as 2^63 less a page */
}

int lt_machine_cpus(void) {
    cpu_set_t set;
    int n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    const int quota = lt_cgroup_cpus("/sys/fs/cgroup", "/proc/self/cgroup");
    if (n > quota) n = quota;
    return n < 1 ? 1 : n;
}

size_t lt_machine_memory(void) {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t bytes = SIZE_MAX;
    if (pages > 0 && page > 0) bytes = (size_t)pages * (size_t)page;
    return lt_min_size(bytes, lt_cgroup_memory("/sys/fs/cgroup", "/proc/self/cgroup"));
}

/* "<key>   123 kB" of /proc/self/status, in bytes */
static size_t status_bytes(const char *key) {
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) {
            kib = strtoull(line + strlen(key), NULL, 10);
            break;
        }
    fclose(f);
    return kib * 1024;
}

size_t lt_peak_rss_bytes(void) {
    return status_bytes("VmHWM:");
}

size_t lt_current_rss_bytes(void) {
    return status_bytes("VmRSS:");
}

double lt_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
