/* SPDX-License-Identifier: Apache-2.0 */
#include "support/support.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/machine.h"

static const char *put(const char *name, const char *text) {
    const char *path = test_path(name);
    char folder[512];
    strcpy(folder, path);
    for (char *p = folder + strlen(test_dir()) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(folder, 0755);
        *p = '/';
    }
    test_write_file(path, text, strlen(text));
    return path;
}

static void limits_of_v2_bind_from_any_ancestor(void **state) {
    (void)state;
    const char *self = put("v2/self", "0::/a/b\n");
    put("v2/fs/a/b/cpu.max", "max 100000\n");
    put("v2/fs/a/b/memory.max", "3000000\n");
    assert_int_equal(lt_cgroup_cpus(test_path("v2/fs"), self), INT_MAX);
    put("v2/fs/a/cpu.max", "250000 100000\n");
    put("v2/fs/memory.max", "2000000\n");
    assert_int_equal(lt_cgroup_cpus(test_path("v2/fs"), self), 3); /* 2.5, rounded up */
    assert_int_equal(lt_cgroup_memory(test_path("v2/fs"), self), 2000000);
    put("v2/fs/a/b/cpu.max", "1000 100000\n");
    assert_int_equal(lt_cgroup_cpus(test_path("v2/fs"), self), 1);
}

static void limits_of_v1_are_found_under_the_mount_of_a_container(void **state) {
    (void)state;
    const char *self = put("v1/self", "5:memory:/docker/xyz\n4:cpuset:/\n3:cpu,cpuacct:/docker/xyz\n");
    put("v1/fs/cpu/cpu.cfs_quota_us", "-1\n");
    put("v1/fs/cpu/cpu.cfs_period_us", "100000\n");
    put("v1/fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(lt_cgroup_cpus(test_path("v1/fs"), self), INT_MAX);
    assert_true(lt_cgroup_memory(test_path("v1/fs"), self) == SIZE_MAX);
    put("v1/fs/cpu/cpu.cfs_quota_us", "400000\n");
    put("v1/fs/memory/memory.limit_in_bytes", "4096000\n");
    assert_int_equal(lt_cgroup_cpus(test_path("v1/fs"), self), 4);
    assert_int_equal(lt_cgroup_memory(test_path("v1/fs"), self), 4096000);
}

static void nothing_there_means_no_limit(void **state) {
    (void)state;
    const char *self = put("none/self", "garbage\n::\n0::/x\n");
    assert_int_equal(lt_cgroup_cpus(test_path("none/fs"), self), INT_MAX);
    assert_true(lt_cgroup_memory(test_path("none/fs"), "/does/not/exist") == SIZE_MAX);
}

static void this_machine_has_processors_memory_and_a_clock(void **state) {
    (void)state;
    assert_in_range(lt_machine_cpus(), 1, 100000);
    assert_true(lt_machine_memory() > (1u << 20));
    assert_true(lt_current_rss_bytes() > 0 && lt_current_rss_bytes() <= lt_peak_rss_bytes() + (1u << 20));
    const double t = lt_seconds();
    assert_true(lt_seconds() >= t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_of_v2_bind_from_any_ancestor),
        cmocka_unit_test(limits_of_v1_are_found_under_the_mount_of_a_container),
        cmocka_unit_test(nothing_there_means_no_limit),
        cmocka_unit_test(this_machine_has_processors_memory_and_a_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
