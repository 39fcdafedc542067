/* SPDX-License-Identifier: Apache-2.0 */
/* calib/mt19937.h - Python's random.Random(seed), for recipes of papers whose code draws with it.
 *
 * MT19937 (Matsumoto & Nishimura 1998), seeded by init_by_array with the 32-bit words of the seed. Spec evaluation
 * §4.3. */
#ifndef LT_CALIB_MT19937_H
#define LT_CALIB_MT19937_H

#include "core/core.h"

typedef struct lt_mt19937 {
    uint32_t state[624];
    size_t next;
} lt_mt19937;
void lt_mt19937_seed(lt_mt19937 *r, uint64_t seed);
uint32_t lt_mt19937_u32(lt_mt19937 *r);
double lt_mt19937_uniform(lt_mt19937 *r);             /* random() */
uint32_t lt_mt19937_below(lt_mt19937 *r, uint32_t n); /* randrange(n), n >= 1 */

#endif
