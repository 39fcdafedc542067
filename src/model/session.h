/* model/session.h - what a generation remembers: K and V in immutable pages per (layer, KV head). Forks share pages. */
#ifndef LT_MODEL_SESSION_H
#define LT_MODEL_SESSION_H

#include "model/model.h"

typedef struct lt_session lt_session; /* begins with an lt_past: cast for lt_batch.past */
lt_status lt_session_create(lt_session **out, const lt_model *m, lt_dtype kv_dtype,
                            lt_err *err); /* f32 f16 bf16 q8_0 */
lt_status lt_session_fork(lt_session **out, const lt_session *s, lt_err *err);
void lt_session_destroy(lt_session *s);
size_t lt_session_positions(const lt_session *s);
size_t lt_session_bytes(const lt_session *s);
/* What lt_session_bytes will say of a session of so many positions; more where layers have windows. */
size_t lt_session_predict(const lt_model *m, lt_dtype kv_dtype, size_t positions);
lt_past *lt_session_past(lt_session *s);
/* Called by the block for piece `piece` of the running batch: appends rows of k and v (after rope). */
lt_status lt_session_append(lt_session *s, int layer, const float *k, size_t ldk, const float *v, size_t ldv, size_t n,
                            lt_err *err);

enum { LT_FEED_ROWS = 512 };
/* Runs ids through the model on top of the session, in chunks of `chunk` rows (0: LT_FEED_ROWS), and gives the logits
 * [vocab] of the last (NULL: not wanted). Too many positions for the model: LT_EDATA with both numbers. */
lt_status lt_session_feed(lt_session *s, lt_exec *x, const lt_model *m, const int32_t *ids, size_t n, size_t chunk,
                          float *logits, lt_err *err);
/* One id on top of each of n sessions of the same model, in one batch; logits [n, vocab]. A session's logits are the
 * same bits whatever stands beside it. */
lt_status lt_session_step(lt_session *const *s, size_t n, lt_exec *x, const lt_model *m, const int32_t *ids,
                          float *logits, lt_err *err);

#endif
