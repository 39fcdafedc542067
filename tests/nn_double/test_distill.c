/* SPDX-License-Identifier: Apache-2.0 */
/* Distillation losses and gradients against golden/compress/distill (its differences agree to 1e-10). The head is the
 * identity, so that the inputs are the logits: row 1 has a teacher that is sure, row 2 logits shifted by 1e4, row 3
 * equal sides. */
#include "io/json.h"
#include "io/safetensors.h"
#include "nn/exec_impl.h"
#include "nn/fixture.h"
#include "nn/ops.h"

enum { N = 12, V = 29, K = 8 };

typedef struct distill {
    fixture f;
    lt_safetensors *st;
    json_t *info;
    lt_linear head;
    int32_t target[N];
    double masked; /* positions that count */
    const lt_real *student, *teacher;
    lt_kd_topk topk;
} distill;

static const void *values(const distill *d, const char *name, lt_dtype t) {
    const lt_tensor *x;
    lt_err err = { 0 };
    assert_ok(lt_safetensors_get(&x, d->st, name, t, -1, &err), &err);
    return lt_host(x);
}

static void open_distill(distill *d) {
    static const size_t lengths[] = { N, SIZE_MAX };
    lt_err err = { 0 };
    const char *path = TEST_NEED_SHARED("golden/compress/distill.safetensors");
    memset(d, 0, sizeof *d);
    fix_open(&d->f, 1, (lt_exec_opts){ .mode = LT_RECORD }, 1);
    fix_batch(&d->f, lengths);
    assert_ok(lt_safetensors_open(&d->st, path, &err), &err);
    assert_ok(lt_json_load(&d->info, test_shared("golden/compress/distill.json"), &err), &err);
    d->head = fix_linear(&d->f, "f", V, V, 0);
    lt_real *w = fix_values(&d->head.stage[0].w);
    for (size_t i = 0; i < V * V; i++) w[i] = i % (V + 1) == 0;
    const int32_t *labels = values(d, "labels", LT_I32);
    const uint8_t *mask = values(d, "mask", LT_U8);
    for (size_t i = 0; i < N; i++) {
        d->target[i] = mask[i] ? labels[i] : -1;
        d->masked += mask[i];
    }
    d->student = values(d, "student", LT_F64);
    d->teacher = values(d, "teacher", LT_F64);
    d->topk = (lt_kd_topk){ K, values(d, "topk_indices", LT_I32), values(d, "topk_logp", LT_F64),
                            values(d, "tail_logp", LT_F64) };
}

static void close_distill(distill *d) {
    lt_safetensors_close(d->st);
    json_decref(d->info);
    fix_close(&d->f);
}

static lt_var run(distill *d, const lt_kd_params *p, lt_var *in) {
    lt_exec *x = d->f.x;
    lt_exec_begin(x, &d->f.batch);
    *in = lt_input(x, N, V, d->student, true);
    if (p->kind >= LT_KD_TRUNC) return lt_head_kd_topk(x, *in, &d->head, 1, &d->topk, d->target, p);
    const lt_kd_teacher t = { lt_input(x, N, V, d->teacher, false), &d->head, 1 };
    return lt_head_kd(x, *in, &d->head, 1, &t, d->target, p);
}

static double mean_of(distill *d, const lt_kd_params *p) {
    lt_err err = { 0 };
    lt_var in;
    const lt_var y = run(d, p, &in);
    assert_ok(lt_exec_status(d->f.x, &err), &err);
    double sum = 0;
    for (size_t i = 0; i < N; i++) sum += lt_data(d->f.x, y)[i];
    return sum / d->masked;
}

static void check_case(distill *d, const char *name, lt_kd_params p) {
    char key[64];
    lt_err err = { 0 };
    lt_var in;
    lt_real seed[N];
    const lt_var y = run(d, &p, &in);
    assert_ok(lt_exec_status(d->f.x, &err), &err);
    snprintf(key, sizeof key, "tau%g.%s.loss", p.tau, name);
    const double *loss = values(d, key, LT_F64);
    for (size_t i = 0; i < N; i++) {
        const double want = d->target[i] < 0 ? 0 : loss[i], got = lt_data(d->f.x, y)[i];
        if (!(fabs(got - want) <= 1e-9 * (1 + fabs(want))))
            fail_msg("%s, row %zu: %.15g, not %.15g", key, i, got, want);
        seed[i] = 1 / d->masked;
    }
    lt_backward(d->f.x, y, seed);
    snprintf(key, sizeof key, "tau%g.%s.grad", p.tau, name);
    assert_close_f64(lt_grad(d->f.x, in), (const double *)values(d, key, LT_F64), N * V, 1e-10, 1e-9);
}

static void losses_and_gradients_are_the_references(void **state) {
    (void)state;
    static const struct {
        const char *name;
        lt_kd_kind kind;
        double beta;
        bool hot; /* also at tau 2 */
    } rows[] = {
        { "full", LT_KD_FORWARD, 0, true },        { "reverse", LT_KD_REVERSE, 0, true },
        { "jsd_beta0.25", LT_KD_JSD, 0.25, true }, { "jsd_beta0.5", LT_KD_JSD, 0.5, true },
        { "trunc", LT_KD_TRUNC, 0, true },         { "renorm", LT_KD_RENORM, 0, true },
        { "tail", LT_KD_TAIL, 0, false },          { "reverse_bucket", LT_KD_REVERSE_BUCKET, 0, false },
    };
    distill d;
    open_distill(&d);
    for (size_t i = 0; i < LT_COUNTOF(rows); i++)
        for (int tau = 1; tau <= (rows[i].hot ? 2 : 1); tau++)
            check_case(&d, rows[i].name, (lt_kd_params){ .kind = rows[i].kind, .tau = tau, .beta = rows[i].beta });
    close_distill(&d);
}

static void mixtures_are_the_references(void **state) {
    (void)state;
    distill d;
    open_distill(&d);
    const struct {
        const char *key;
        lt_kd_params p;
    } rows[] = {
        { "ce_mean", { LT_KD_FORWARD, 2, false, 0, 1 } },
        { "ce_mean", { LT_KD_TRUNC, 2, false, 0, 1 } },
        { "mix_alpha_ce_0.3_full", { LT_KD_FORWARD, 1, false, 0, 0.3 } },
        { "tau2_full_times_tau_squared", { LT_KD_FORWARD, 2, true, 0, 0 } },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        const double want = json_real_value(json_object_get(d.info, rows[i].key)), got = mean_of(&d, &rows[i].p);
        if (!(fabs(got - want) <= 1e-9 * (1 + fabs(want)))) fail_msg("%s: %.15g, not %.15g", rows[i].key, got, want);
    }
    close_distill(&d);
}

/* A = B - log Q, 0 <= C <= full (spec minitron 5.1) */
static void kinds_stand_in_their_known_relations(void **state) {
    (void)state;
    distill d;
    lt_var in;
    double y[4][N];
    static const lt_kd_kind kinds[] = { LT_KD_FORWARD, LT_KD_TRUNC, LT_KD_RENORM, LT_KD_TAIL };
    open_distill(&d);
    for (size_t k = 0; k < 4; k++) {
        const lt_var v = run(&d, &(lt_kd_params){ .kind = kinds[k], .tau = 1 }, &in);
        memcpy(y[k], lt_data(d.f.x, v), sizeof y[k]);
    }
    for (size_t i = 0; i < N; i++) {
        assert_true(y[3][i] >= -1e-10 && y[3][i] <= y[0][i] + 1e-10);
        assert_true(y[1][i] >= y[2][i] - 1e-10); /* -log Q >= 0 */
    }
    close_distill(&d);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    static const size_t lengths[] = { 3, SIZE_MAX };
    fixture f;
    lt_err err = { 0 };
    fix_open(&f, 1, (lt_exec_opts){ .mode = LT_RECORD }, 1);
    fix_batch(&f, lengths);
    const lt_linear head = fix_linear(&f, "f", 4, 6, 0), other = fix_linear(&f, "f", 4, 7, 0);
    const lt_real x[12] = { 0 };
    int32_t target[3] = { 0, 1, -1 }, ids[6] = { 0, 1, 2, 3, 4, 5 };
    lt_real logp[6] = { -1, -1, -1, -1, -1, -1 };
    const lt_kd_topk t = { 2, ids, logp, NULL };
    const struct {
        lt_kd_params p;
        bool other;
        int32_t target, id;
        double logp;
        lt_status st;
        const char *text;
    } rows[] = {
        { { LT_KD_FORWARD, 0, false, 0, 0 }, false, 0, 0, -1, LT_EUSAGE, "tau 0" },
        { { LT_KD_FORWARD, 1, false, 0, 2 }, false, 0, 0, -1, LT_EUSAGE, "alpha_ce 2" },
        { { LT_KD_JSD, 1, false, -1, 0 }, false, 0, 0, -1, LT_EUSAGE, "beta -1" },
        { { LT_KD_FORWARD, 1, false, 0, 0 }, true, 0, 0, -1, LT_EUSAGE, "vocabularies differ" },
        { { LT_KD_FORWARD, 1, false, 0, 0 }, false, 6, 0, -1, LT_EDATA, "target 6 at row 0" },
        { { LT_KD_TAIL, 2, false, 0, 0 }, false, 0, 0, -1, LT_EUSAGE, "tau 2" },
        { { LT_KD_TRUNC, 2, false, 0, 0 }, false, 0, 6, -1, LT_EDATA, "id 6" },
        { { LT_KD_TRUNC, 2, false, 0, 0 }, false, 0, 0, 0.5, LT_EDATA, "log-probability 0.5" },
    };
    for (size_t i = 0; i < LT_COUNTOF(rows); i++) {
        lt_exec_begin(f.x, &f.batch);
        target[0] = rows[i].target;
        ids[0] = rows[i].id;
        logp[0] = rows[i].logp;
        const lt_var in = lt_input(f.x, 3, 4, x, true);
        const lt_kd_teacher teacher = { lt_input(f.x, 3, 4, x, false), rows[i].other ? &other : &head, 1 };
        if (rows[i].p.kind >= LT_KD_TRUNC)
            lt_head_kd_topk(f.x, in, &head, 1, &t, target, &rows[i].p);
        else
            lt_head_kd(f.x, in, &head, 1, &teacher, target, &rows[i].p);
        assert_fails(lt_exec_status(f.x, &err), &err, rows[i].st, rows[i].text);
    }
    fix_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_and_gradients_are_the_references),
        cmocka_unit_test(mixtures_are_the_references),
        cmocka_unit_test(kinds_stand_in_their_known_relations),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
