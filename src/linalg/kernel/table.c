/* SPDX-License-Identifier: Apache-2.0 */
#include "linalg/kernel/tables.h"

#include <string.h>
#if defined(__x86_64__) && !defined(LT_REF_ONLY)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static bool always(void) {
    return true;
}

#if defined(__x86_64__) && !defined(LT_REF_ONLY)
/* f16c came with every AVX2 processor; clang 14 has no name for it */
static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
/* AMX-TILE, AMX-BF16 and AVX512-BF16 of the processor (Intel SDM, CPUID leaf 7), then the kernel's leave to use the
 * tiles: a process asks for them, its threads have them (Documentation/arch/x86/xstate.rst). */
static bool ask_for_amx(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    unsigned a, b, c, d, sub_a;
    if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
    if (!(d >> 22 & 1) || !(d >> 24 & 1) || !__get_cpuid_count(7, 1, &sub_a, &b, &c, &d) || !(sub_a >> 5 & 1))
        return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
/* CPUID is slow under a hypervisor, and small products ask often. */
static bool has_amx(void) {
    static _Atomic int answer; /* 0: not asked yet, 1: yes, 2: no */
    if (!answer) answer = ask_for_amx() ? 1 : 2;
    return answer == 1;
}
#endif

/* Best first. */
static const struct {
    const lt_kernels *table;
    bool (*usable)(void);
} builds[] = {
#if defined(__x86_64__) && !defined(LT_REF_ONLY)
    { &lt_kernels_amx, has_amx },
    { &lt_kernels_avx512, has_avx512 },
    { &lt_kernels_avx2, has_avx2 },
#elif defined(__aarch64__) && !defined(LT_REF_ONLY)
    { &lt_kernels_neon, always },
#endif
    { &lt_kernels_ref, always },
};

const lt_kernels *lt_kernels_at(size_t i) {
    for (size_t b = 0; b < LT_COUNTOF(builds); b++)
        if (builds[b].usable() && i-- == 0) return builds[b].table;
    return NULL;
}

const lt_kernels *lt_kernels_get(const char *name) {
    const lt_kernels *k;
    for (size_t i = 0; (k = lt_kernels_at(i)); i++)
        if (!name || strcmp(name, k->name) == 0) return k;
    return NULL;
}
