/* nn/stage.h - one stage of a linear, or a slice of its outputs: what linear.c and head.c share.
 *
 *   y = x Wᵀ + sum_a s_a (x A_aᵀ) B_aᵀ
 *   dx += dy W + sum_a dt_a A_a,  dt_a = s_a dy B_a;  dW += dyᵀ x,  dA_a += dt_aᵀ x,  dB_a += dyᵀ (s_a x A_aᵀ) */
#ifndef LT_NN_STAGE_H
#define LT_NN_STAGE_H

#include "nn/linear.h"

typedef struct lt_span {
    size_t o0, n;
} lt_span; /* outputs [o0, o0 + n) */
size_t lt_stage_in(const lt_stage *s);
size_t lt_stage_out(const lt_stage *s);
lt_status lt_linear_check(const lt_exec *x, const lt_node *node, const lt_linear *l, lt_err *err);
/* in, bias and so on of the node's parameters: the fourth is any adapter that trains, so that the node is recorded for
 * it */
lt_node lt_linear_node(const lt_linear *l, lt_var in);
/* A span that is not the whole needs a weight of rank 2 and o0 a multiple of its block. kept: what the adapters leave
 * for backward (nn/adapt.h), or NULL. */
void lt_stage_forward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *y, const lt_real *in, size_t n, void *kept);
/* Writes dx [n, in] (NULL: not wanted), or adds to it, and adds to the gradients of what trains. */
void lt_stage_backward(lt_exec *x, const lt_stage *s, lt_span span, lt_real *dx, bool add, const lt_real *dy,
                       const lt_real *in, size_t n, void *kept);
void lt_bias_add(lt_exec *x, const lt_param *bias, lt_span span, lt_real *y, size_t n);
void lt_bias_backward(lt_exec *x, const lt_param *bias, lt_span span, const lt_real *dy, size_t n);
/* y [n, out]. kept: lt_linear_saved_bytes() that backward reads, NULL: none needed. */
size_t lt_linear_saved_bytes(const lt_exec *x, const lt_linear *l, size_t n);
void lt_linear_run(lt_exec *x, const lt_linear *l, lt_real *y, const lt_real *in, size_t n, void *kept);
void lt_linear_back(lt_exec *x, const lt_linear *l, lt_real *dx, bool add, const lt_real *dy, const lt_real *in,
                    size_t n, void *kept);

#endif
