/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/options.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/suggest.h"

const char lt_required[] = "";

/* strtod of the C locale, whatever the host program has set */
static bool parse_real(double *out, const char *text, const char **end) {
    if (!strchr("+-.0123456789", *text) || !*text) return false;
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return false;
    char *stop;
    *out = strtod_l(text, &stop, c);
    freelocale(c);
    *end = stop;
    return stop != text && isfinite(*out);
}

static bool parse_int(int64_t *out, const char *text) {
    char *end;
    if (!strchr("+-0123456789", *text) || !*text) return false;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && *end == 0 && errno == 0;
}

bool lt_bytes_parse(size_t *out, const char *text) {
    static const struct {
        const char *unit;
        double factor;
    } units[] = {
        { "", 1 },         { "B", 1 },      { "K", 0x1p10 },   { "KiB", 0x1p10 }, { "M", 0x1p20 },
        { "MiB", 0x1p20 }, { "G", 0x1p30 }, { "GiB", 0x1p30 }, { "T", 0x1p40 },   { "TiB", 0x1p40 },
        { "kB", 1e3 },     { "KB", 1e3 },   { "MB", 1e6 },     { "GB", 1e9 },     { "TB", 1e12 },
    };
    double v;
    const char *end;
    if (*text == '-' || !parse_real(&v, text, &end)) return false;
    for (size_t i = 0; i < LT_COUNTOF(units); i++) {
        if (strcmp(end, units[i].unit) != 0) continue;
        v *= units[i].factor;
        if (v >= 0x1p63) return false;
        *out = (size_t)v;
        return true;
    }
    return false;
}

static bool parse_flag(bool *out, const char *text) {
    static const char *const words[] = { "false", "true", "no", "yes", "off", "on", "0", "1" };
    for (size_t i = 0; i < LT_COUNTOF(words); i++)
        if (strcmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return true;
        }
    return false;
}

bool lt_name_equal(const char *a, const char *b) {
    for (; *a && *b; a++, b++)
        if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_'))) return false;
    return *a == *b;
}

enum { WORD_MAX = 47 };

static lt_status check_choice(const lt_option *row, const char *text, lt_err *err) {
    char word[WORD_MAX + 1], list[512], hint[80];
    char near[WORD_MAX + 1] = "";
    lt_suggestion s = { .word = text };
    size_t used = 0;
    for (const char *c = row->choices; *c;) {
        const size_t n = strcspn(c, "|");
        snprintf(word, sizeof word, "%.*s", (int)n, c);
        if (strcmp(word, text) == 0) return LT_OK;
        const char *best = s.best;
        lt_suggest(&s, word);
        if (s.best != best || s.best == word) snprintf(near, sizeof near, "%s", word);
        if (s.best) s.best = near;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", word);
        used = lt_min_size(used, sizeof list - 1);
        c += n + (c[n] == '|');
    }
    return lt_fail(err, LT_EUSAGE, "--%s: \"%.60s\" is not one of %s%s", row->name, text, list,
                   lt_suggest_text(&s, "", hint, sizeof hint));
}

static lt_status check_range(const lt_option *row, double v, const char *text, lt_err *err) {
    if (row->lo == row->hi || (v >= row->lo && v <= row->hi)) return LT_OK;
    if (isinf(row->hi) || row->hi >= 0x1p53)
        return lt_fail(err, LT_EUSAGE, "--%s: %s is below %.16g, the least value", row->name, text, row->lo);
    return lt_fail(err, LT_EUSAGE, "--%s: %s is outside %.16g .. %.16g", row->name, text, row->lo, row->hi);
}

lt_status lt_value_parse(lt_value *out, const lt_option *row, const char *text, lt_err *err) {
    lt_value v = { 0 };
    const char *end = "";
    size_t bytes = 0;
    switch (row->type) {
    case LT_OPT_STRING:
        break;
    case LT_OPT_PATH:
        LT_REQUIRE(err, *text, "--%s: the path is empty", row->name);
        break;
    case LT_OPT_INT:
        LT_REQUIRE(err, parse_int(&v.i, text), "--%s: \"%.60s\" is not a whole number", row->name, text);
        v.d = (double)v.i;
        break;
    case LT_OPT_REAL:
        LT_REQUIRE(err, parse_real(&v.d, text, &end) && !*end, "--%s: \"%.60s\" is not a number", row->name, text);
        break;
    case LT_OPT_BYTES:
        LT_REQUIRE(err, lt_bytes_parse(&bytes, text), "--%s: \"%.60s\" is not a size (examples: 512MiB, 4G)", row->name,
                   text);
        v.i = (int64_t)bytes;
        v.d = (double)bytes;
        break;
    case LT_OPT_FLAG:
        LT_REQUIRE(err, parse_flag(&v.flag, text), "--%s: \"%.60s\" is neither true nor false", row->name, text);
        v.i = v.flag;
        break;
    }
    if (row->choices) LT_TRY(check_choice(row, text, err));
    if (row->type == LT_OPT_INT || row->type == LT_OPT_REAL || row->type == LT_OPT_BYTES)
        LT_TRY(check_range(row, v.d, text, err));
    v.text = lt_strdup(text);
    if (!v.text) return lt_fail(err, LT_ENOMEM, "--%s: out of memory", row->name);
    *out = v;
    return LT_OK;
}

void lt_value_clear(lt_value *v) {
    lt_free(v->text);
    *v = (lt_value){ 0 };
}
