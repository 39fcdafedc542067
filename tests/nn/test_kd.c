/* SPDX-License-Identifier: Apache-2.0 */
/* The distillation losses in float, over several tiles of vocabulary and chunks of tokens: against the formulas in
 * double, and the same bytes for any number of threads. Formulas themselves: nn_double/test_distill.c. */
#include "nn/fixture.h"

enum { D = 7, TEACHER_D = 5, VOCAB = 4500, ROWS = 1100, K = 3 };

typedef struct made {
    fixture f;
    lt_linear head, other;
    lt_var in, loss;
    const lt_real *x, *t;
    int32_t *target, *ids;
    lt_real *logp, *tail;
} made;

static void make(made *m, int threads, const lt_kd_params *p) {
    lt_err err = { 0 };
    fix_open(&m->f, threads, (lt_exec_opts){ .mode = LT_RECORD }, 11);
    fix_batch(&m->f, LENGTHS(ROWS));
    m->head = fix_linear(&m->f, "b", D, VOCAB, 0);
    m->other = fix_linear(&m->f, "2 f", TEACHER_D, VOCAB, 4);
    m->x = fix_normal(&m->f, ROWS * D, 1);
    m->t = fix_normal(&m->f, ROWS * TEACHER_D, 1);
    m->target = fix_zeros(&m->f, ROWS, sizeof *m->target);
    m->ids = fix_zeros(&m->f, ROWS * K, sizeof *m->ids);
    m->logp = fix_zeros(&m->f, ROWS * K, sizeof *m->logp);
    m->tail = fix_zeros(&m->f, ROWS, sizeof *m->tail);
    for (size_t i = 0; i < ROWS; i++) {
        m->target[i] = (int32_t)(i * 4 % VOCAB);
        m->tail[i] = logf(0.1f);
        for (size_t k = 0; k < K; k++) {
            m->ids[i * K + k] = (int32_t)((i + k * 2000) % VOCAB);
            m->logp[i * K + k] = logf(0.3f);
        }
    }
    lt_exec_begin(m->f.x, &m->f.batch);
    m->in = lt_input(m->f.x, ROWS, D, m->x, true);
    const lt_kd_teacher teacher = { lt_input(m->f.x, ROWS, TEACHER_D, m->t, false), &m->other, 0.7 };
    const lt_kd_topk topk = { K, m->ids, m->logp, m->tail };
    m->loss = p->kind >= LT_KD_TRUNC ? lt_head_kd_topk(m->f.x, m->in, &m->head, 1, &topk, m->target, p)
                                     : lt_head_kd(m->f.x, m->in, &m->head, 1, &teacher, m->target, p);
    assert_ok(lt_exec_status(m->f.x, &err), &err);
}

/* log softmax of row i of a head over tau, in double */
static void log_softmax(double *out, const lt_real *logits, double tau) {
    double m = -INFINITY, z = 0;
    for (size_t v = 0; v < VOCAB; v++) m = fmax(m, (double)logits[v] / tau);
    for (size_t v = 0; v < VOCAB; v++) z += exp((double)logits[v] / tau - m);
    for (size_t v = 0; v < VOCAB; v++) out[v] = (double)logits[v] / tau - m - log(z);
}

static double expected(const made *m, const lt_kd_params *p, size_t i, const lt_real *s, const lt_real *t) {
    static double q[VOCAB], r[VOCAB], one[VOCAB];
    double kd = 0, mass = 0;
    log_softmax(q, s, p->tau);
    log_softmax(r, t, p->tau);
    log_softmax(one, s, 1);
    if (p->kind == LT_KD_FORWARD)
        for (size_t v = 0; v < VOCAB; v++) kd += exp(r[v]) * (r[v] - q[v]);
    if (p->kind == LT_KD_TAIL) {
        for (size_t k = i * K; k < (i + 1) * K; k++) {
            kd += exp((double)m->logp[k]) * ((double)m->logp[k] - q[m->ids[k]]);
            mass += exp(q[m->ids[k]]);
        }
        kd += 0.1 * (log(0.1) - log(1 - mass));
    }
    return (1 - p->alpha_ce) * (p->tau_square ? p->tau * p->tau : 1) * kd - p->alpha_ce * one[m->target[i]];
}

static const lt_kd_params cases[] = { { LT_KD_FORWARD, 2, true, 0, 0.25 }, { LT_KD_TAIL, 1, false, 0, 0.5 } };

static void losses_follow_the_formulas(void **state) {
    (void)state;
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        made m;
        make(&m, 2, &cases[c]);
        lt_real *got = fix_zeros(&m.f, ROWS, sizeof *got);
        memcpy(got, lt_data(m.f.x, m.loss), ROWS * sizeof *got);
        lt_exec_begin(m.f.x, &m.f.batch);
        const lt_var s = lt_logits(m.f.x, lt_input(m.f.x, ROWS, D, m.x, false), &m.head, 1);
        const lt_var t = lt_logits(m.f.x, lt_input(m.f.x, ROWS, TEACHER_D, m.t, false), &m.other, 0.7);
        for (size_t i = 0; i < ROWS; i += 61) {
            const double want =
                expected(&m, &cases[c], i, lt_data(m.f.x, s) + i * VOCAB, lt_data(m.f.x, t) + i * VOCAB);
            if (!(fabs(got[i] - want) <= 2e-5 * (1 + fabs(want))))
                fail_msg("%zu, %zu: %g, not %g", c, i, (double)got[i], want);
        }
        fix_close(&m.f);
    }
}

static void bytes_do_not_depend_on_the_number_of_threads(void **state) {
    (void)state;
    for (size_t c = 0; c < LT_COUNTOF(cases); c++) {
        made m[2];
        for (int k = 0; k < 2; k++) {
            make(&m[k], k == 0 ? 1 : 3, &cases[c]);
            lt_backward(m[k].f.x, m[k].loss, NULL);
        }
        assert_memory_equal(lt_data(m[0].f.x, m[0].loss), lt_data(m[1].f.x, m[1].loss), ROWS * sizeof(lt_real));
        assert_memory_equal(lt_grad(m[0].f.x, m[0].in), lt_grad(m[1].f.x, m[1].in), ROWS * D * sizeof(lt_real));
        assert_memory_equal(m[0].head.stage[0].w.grad, m[1].head.stage[0].w.grad, VOCAB * D * sizeof(lt_real));
        fix_close(&m[0].f);
        fix_close(&m[1].f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_follow_the_formulas),
        cmocka_unit_test(bytes_do_not_depend_on_the_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
