/* SPDX-License-Identifier: Apache-2.0 */
/* The prediction is a sum of what is resident at the worst moment:
 *   process now + team and BLAS + values of the largest batch + hidden states + weights of a group (or the head, if
 * larger and the group's are given back first) + touched pages of the table + what the caller holds. */
#include "model/runner.h"

#include <stdio.h>

/* Measured: what one thread of a GEMM makes resident beside its operands (kernel scratch and OpenBLAS's packing
 * buffers). */
enum { THREAD_BYTES = 12 << 20, EXEC_SLACK = 24 << 20, PAGE_BYTES = 4096 };

typedef struct sizes {
    size_t n_layers, all_layers, largest_layer; /* weights */
    size_t head, table;                         /* head: 0 when it is not run */
    size_t exec, hidden, batch;                 /* values; hidden of all batches; of the largest */
    size_t base, extra, extra_layer;
} sizes;

/* Of a tensor that is still to become resident: what an overlay owns is part of the process already. */
static size_t mapped_bytes(const lt_tensor *t) {
    return t->buffer->mapped ? lt_tensor_bytes(t) : 0;
}

static size_t linear_bytes(const lt_linear *l) {
    size_t n = 0;
    for (int s = 0; s < l->n_stages; s++) n += mapped_bytes(&l->stage[s].w.t);
    return n;
}

static size_t layer_bytes(const lt_layer *l) {
    size_t n = 16 * PAGE_BYTES; /* norms, biases, pages at the ends */
    for (int s = 0; s < LT_N_LINEAR_SLOTS; s++) n += linear_bytes(&l->linear[s]);
    return n;
}

static sizes measure(const lt_model *m, const lt_batch *batches, size_t n_batches, size_t head_rows) {
    sizes z = { .n_layers = m->config.n_layers };
    size_t rows = 0, most = 0;
    for (size_t i = 0; i < n_batches; i++) {
        rows += batches[i].n_rows;
        most = lt_max_size(most, batches[i].n_rows);
    }
    for (size_t l = 0; l < z.n_layers; l++) {
        const size_t bytes = layer_bytes(&m->layer[l]);
        z.all_layers += bytes;
        z.largest_layer = lt_max_size(z.largest_layer, bytes);
    }
    const size_t row = lt_tensor_bytes(&m->embed.t) / lt_max_size(1, lt_tensor_rows(&m->embed.t));
    z.head = head_rows > 0 ? linear_bytes(&m->head) : 0;
    /* faults bring 16 pages at a time */
    z.table = lt_min_size(mapped_bytes(&m->embed.t), most * (row + 16 * PAGE_BYTES));
    z.exec = lt_model_exec_bytes(m, most) + EXEC_SLACK;
    z.hidden = rows * m->config.d_model * sizeof(float);
    z.batch = most * m->config.d_model * sizeof(float);
    z.base = lt_current_rss_bytes() + (size_t)lt_machine_cpus() * THREAD_BYTES;
    return z;
}

static size_t predict(const sizes *z, const lt_run_plan *p) {
    const size_t group = lt_min_size(p->group, z->n_layers);
    const bool one = group == z->n_layers;
    const size_t weights = p->drop_weights ? lt_min_size(z->all_layers, group * z->largest_layer) : z->all_layers;
    const size_t hidden = one ? 0 : p->spill ? 2 * z->batch : z->hidden;
    const size_t lasting =
        p->drop_weights && !one ? lt_max_size(weights + z->table, z->head) : weights + lt_max_size(z->table, z->head);
    return z->base + z->exec + hidden + lasting + z->extra + group * z->extra_layer;
}

/* In order of preference: everything at once; groups as large as fit; hidden states on disk. */
static bool choose(lt_run_plan *out, const sizes *z, size_t limit, bool layer_major) {
    for (int spill = 0; spill <= 1; spill++)
        for (int drop = spill; drop <= 1; drop++)
            for (size_t group = layer_major ? 1 : z->n_layers; group >= 1; group--) {
                if (group == z->n_layers && (drop || spill) && z->n_layers > 1)
                    continue; /* nothing to give back, nothing to keep */
                if (!drop && !layer_major && group < z->n_layers && z->extra_layer == 0)
                    break; /* would only cost hidden states */
                lt_run_plan p = { .group = group, .drop_weights = drop, .spill = spill };
                p.predicted_bytes = predict(z, &p);
                *out = p;
                if (limit == 0 || p.predicted_bytes <= limit) return true;
            }
    return false;
}

lt_status lt_run_make_plan(lt_run_plan *out, const lt_model *m, const lt_batch *batches, size_t n_batches,
                           size_t max_memory, size_t extra_bytes, size_t extra_layer_bytes, size_t head_rows,
                           bool layer_major, lt_err *err) {
    if (max_memory >
        0) { /* pages that an earlier pass left resident can go, and are not part of what the process needs */
        for (size_t l = 0; l < m->config.n_layers; l++) lt_layer_drop(m, l);
        lt_tensor_drop(&m->embed.t);
        for (int s = 0; s < m->head.n_stages; s++) lt_tensor_drop(&m->head.stage[s].w.t);
    }
    sizes z = measure(m, batches, n_batches, head_rows);
    z.extra = extra_bytes;
    z.extra_layer = extra_layer_bytes;
    lt_run_plan p;
    if (choose(&p, &z, max_memory, layer_major)) {
        *out = p;
        return LT_OK;
    }
    return lt_fail(err, LT_ENOMEM, "needs %zu MiB at least, the limit is %zu MiB: %zu MiB short (%s)",
                   (p.predicted_bytes >> 20) + 1, max_memory >> 20, ((p.predicted_bytes - max_memory) >> 20) + 1,
                   m->path);
}
