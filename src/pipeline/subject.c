/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/subject.h"

#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "pipeline/manifest.h"

/* The last part of a path, whatever slashes end it; lt_free */
static char *folder_name(const char *path) {
    char *copy = lt_strdup(path);
    for (size_t n = copy ? strlen(copy) : 0; n > 1 && copy[n - 1] == '/'; n--) copy[n - 1] = 0;
    char *name = copy ? lt_strdup(lt_path_name(copy)) : NULL;
    lt_free(copy);
    return name;
}

/* The id becomes "model + adapter". */
static lt_status describe_adapter(lt_subject *s, lt_err *err) {
    char hash[LT_HASH_HEX];
    LT_TRY(lt_adapters_hash(s->o.adapters, hash, err));
    char *name = folder_name(lt_adapters_folder(s->o.adapters));
    char *both = name ? lt_asprintf("%s + %s", s->id, name) : NULL;
    s->adapter = both ? json_pack("{s:s, s:s}", "id", name, "hash", hash) : NULL;
    lt_free(name);
    if (both) {
        lt_free(s->id);
        s->id = both;
    }
    return s->adapter ? LT_OK : lt_fail(err, LT_ENOMEM, "out of memory (%s)", lt_adapters_folder(s->o.adapters));
}

lt_status lt_subject_open(lt_subject *s, const lt_call_ctx *c, const char *path, lt_adapt how, lt_err *err) {
    *s = (lt_subject){ 0 };
    LT_TRY(lt_open_model(&s->o, path, LT_TOKENIZER_IF_THERE, err));
    LT_TRY(lt_opened_adapt(&s->o, c, how, err));
    s->id = lt_model_id(s->o.model);
    lt_status st = s->id ? LT_OK : lt_fail(err, LT_ENOMEM, "%s: out of memory", path);
    if (st == LT_OK && s->o.adapters) st = describe_adapter(s, err);
    if (st == LT_OK) st = lt_model_hash(s->o.model, c->ctx->threads, s->hash, err);
    if (st != LT_OK) lt_subject_clear(s);
    return st;
}

void lt_subject_clear(lt_subject *s) {
    lt_opened_clear(&s->o);
    lt_free(s->id);
    json_decref(s->adapter);
    s->id = NULL;
    s->adapter = NULL;
}

/* One row's beginning, on one line: what a wrong template or tokenizer shows at a glance. */
static void log_sample(const lt_subject *s, const lt_call_ctx *c, const lt_tokens *t) {
    enum { SAMPLE = 48 };
    char *text = NULL;
    size_t n = 0;
    if (!s->o.tokenizer || t->n_rows == 0) return;
    const size_t ids = lt_min_size(SAMPLE, t->row_start[1] - t->row_start[0]);
    if (lt_tokenizer_decode(s->o.tokenizer, t->ids + t->row_start[0], ids, false, &text, &n, NULL) != LT_OK) return;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 0x20) text[i] = ' ';
    lt_log(c->ctx, LT_LOG_INFO, "%zu rows, %zu tokens; the first begins: %s", t->n_rows, t->n_ids, text);
    lt_free(text);
}

lt_status lt_subject_tokens(lt_tokens *out, const lt_subject *s, const lt_call_ctx *c, const char *data,
                            const lt_tokens_opts *o, lt_err *err) {
    const char *file = lt_arg_known(c->args, "template") ? lt_arg_string(c->args, "template") : NULL;
    lt_tokens_opts with_chat = *o;
    lt_chat *chat = NULL;
    lt_err no_chat = { 0 };
    /* a template that cannot be read matters only where rows need it */
    if (s->o.tokenizer && lt_model_chat(&chat, s->o.model, s->o.tokenizer, file, &no_chat) != LT_OK && file)
        return lt_fail(err, no_chat.code, "%s", no_chat.message);
    with_chat.chat = chat;
    with_chat.no_chat = &no_chat;
    const lt_status st = lt_tokens_from_data(out, data, s->o.tokenizer, s->o.model->config.vocab_size, &with_chat, err);
    lt_chat_destroy(chat);
    if (st == LT_OK) log_sample(s, c, out);
    return st;
}

lt_status lt_window_choose(size_t *window, const lt_call_ctx *c, const lt_subject *const *s, size_t n, lt_err *err) {
    const bool given = lt_arg_given(c->args, "window");
    *window = given ? (size_t)lt_arg_int(c->args, "window") : 2048;
    for (size_t i = 0; i < n; i++) {
        const size_t most = s[i]->o.model->config.max_positions;
        if (*window <= most) continue;
        LT_REQUIRE(err, !given, "--window: %zu is more than the %zu positions of %s", *window, most, s[i]->id);
        *window = most;
    }
    return LT_OK;
}

lt_status lt_tokens_flops(double *flops, const lt_model *m, const lt_tokens *t, bool heads, lt_err *err) {
    lt_batch *b;
    size_t n;
    *flops = 0;
    LT_TRY(lt_tokens_batches(&b, &n, t, 2048, err));
    for (size_t i = 0; i < n; i++) *flops += lt_model_flops(m, &b[i], heads ? b[i].n_rows : 0);
    lt_batches_free(b, n);
    return LT_OK;
}

json_t *lt_protocol_json(const char *name, const lt_tokens *t, size_t window) {
    char label[64];
    snprintf(label, sizeof label, "ppl_%.24s_%zu", name, window);
    return json_pack("{s:s, s:s, s:s?, s:I, s:I, s:I, s:s?, s:s}", "name", name, "label", label, "recipe", t->recipe,
                     "window", (json_int_t)window, "windows", (json_int_t)t->n_rows, "tokens", (json_int_t)t->n_ids,
                     "data", t->source, "tokens_hash", t->hash);
}
