/* nn/real.h - the number type that the mathematics of nn/ is written in.
 *
 * float in the library; the tests compile the same sources with LT_REAL_DOUBLE and check formulas to 1e-10. */
#ifndef LT_NN_REAL_H
#define LT_NN_REAL_H

#ifdef LT_REAL_DOUBLE
typedef double lt_real;
#define LT_REAL_DTYPE LT_F64
#else
typedef float lt_real;
#define LT_REAL_DTYPE LT_F32
#endif

#endif
