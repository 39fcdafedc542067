/* model/overlay.h - replaced linears over a read-only model: `apply` builds one, saving writes it, dropping it restores
 * bit-exactly. */
#ifndef LT_MODEL_OVERLAY_H
#define LT_MODEL_OVERLAY_H

#include "model/model.h"

typedef struct lt_overlay lt_overlay;
lt_status lt_overlay_create(lt_overlay **out, const lt_model *base, lt_err *err); /* base must outlive it */
void lt_overlay_destroy(lt_overlay *o);
/* New weights beyond so many bytes lie in nameless files in folder, from where they come back when they are read.
 * Without it all are in memory. */
lt_status lt_overlay_spill(lt_overlay *o, size_t limit, const char *folder, lt_err *err);
/* The changed model: run it, save it; borrowed, valid until destroy. */
const lt_model *lt_overlay_model(const lt_overlay *o);
/* Replaces a module by y = A(Bx) + bias: a [m, r], b [r, d] row-major f64, rounded once to dtype. bias NULL: keep the
 * module's own (or none); else [m] replaces or adds one. m and d are what the module has now. Copies. A non-finite
 * value is LT_EDATA naming module. */
lt_status lt_overlay_factor(lt_overlay *o, const char *module, size_t rank, const double *a, const double *b,
                            const double *bias, lt_dtype dtype, lt_err *err);
/* Replaces the weight by a dense one of dtype (f64 values [m, d]); in_out layout of the original is kept. */
lt_status lt_overlay_dense(lt_overlay *o, const char *module, const double *w, lt_dtype dtype, lt_err *err);
/* Channels of a layer's MLP by their indices in the base, ascending; the others leave gate, up and down, and the
 * layer's d_ff becomes n. Weights keep their values and dtype (block types become bf16). The linears must be the base's
 * own. LT_EDATA: an index is out of range or out of order; LT_EUNSUPPORTED: a linear is factored. */
lt_status lt_overlay_keep_ff(lt_overlay *o, size_t layer, const size_t *index, size_t n, lt_err *err);
/* Stores the weights of every linear and the embedding as dtype (q8_0, bf16 ...); norms and biases stay. Rows not a
 * multiple of the block are LT_EUNSUPPORTED naming the tensor. */
lt_status lt_overlay_quantize(lt_overlay *o, lt_dtype dtype, lt_err *err);
/* Parts: module may be a part of a fused matrix, "<module>#<part>". The first that is replaced sets its siblings apart:
 * they become linears of their own, "<module>.<part>", views of what they were. LT_EUNSUPPORTED: the matrix has been
 * replaced as a whole. The same without a replacement: */
lt_status lt_overlay_set_apart(lt_overlay *o, const char *module, lt_err *err);
/* Back to the base's module; a matrix none of whose parts is replaced is whole again. */
lt_status lt_overlay_restore(lt_overlay *o, const char *module, lt_err *err);

#endif
