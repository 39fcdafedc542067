/* SPDX-License-Identifier: Apache-2.0 */
/* Renderings are those of transformers 4.57 with Jinja2 3.1: every golden conversation, and each construct of the
 * subset by itself; everything else is an error of the right kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "chat/chat.h"
#include "io/file.h"
#include "io/gguf.h"

#define GOLDEN LT_SHARED_DIR "/golden/tokenizer/"

/* ---- goldens ---- */

typedef struct check {
    const lt_tokenizer *tok;
    const lt_chat *chat;
    size_t records, wrong;
} check;

static bool same_ids(const check *c, const json_t *line) {
    const json_t *want = json_object_get(line, "ids");
    int32_t *ids;
    size_t n;
    lt_err err = { 0 };
    if (lt_chat_encode(c->chat, c->tok, line, false, &ids, &n, &err) != LT_OK) fail_msg("%s", err.message);
    bool same = n == json_array_size(want);
    for (size_t i = 0; i < n && same; i++) same = ids[i] == json_integer_value(json_array_get(want, i));
    lt_free(ids);
    return same;
}

static bool as_recorded(const check *c, const json_t *line) {
    const json_t *want = json_object_get(line, "rendered");
    char *text;
    size_t bytes;
    lt_err err = { 0 };
    const lt_status st = lt_chat_render(c->chat, line, false, &text, &bytes, &err);
    if (!want) return st == LT_EDATA && strstr(err.message, json_string_value(json_object_get(line, "error")));
    if (st != LT_OK) return print_error("%s\n", err.message), false;
    const bool same = bytes == json_string_length(want) && memcmp(text, json_string_value(want), bytes) == 0;
    lt_free(text);
    return same && same_ids(c, line);
}

static void each_case(const char *path, check *c) {
    char *text, *rest = NULL;
    size_t bytes;
    assert_int_equal(lt_file_read(&text, &bytes, path, 0, NULL), LT_OK);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        json_t *j = NULL;
        assert_int_equal(lt_json_parse(&j, line, strlen(line), path, NULL), LT_OK);
        if (!as_recorded(c, j) && c->wrong++ < 3) print_error("%s: line %zu differs\n", path, c->records + 1);
        c->records++;
        json_decref(j);
    }
    lt_free(text);
}

/* state: the folder's name */
static void conversations_render_and_tokenize_as_recorded(void **state) {
    char folder[512], path[600];
    snprintf(folder, sizeof folder, GOLDEN "%s", (const char *)*state);
    if (!lt_path_exists(folder)) {
        print_message("skipped: no %s\n", folder);
        skip();
    }
    lt_tokenizer *tok;
    lt_chat *chat = NULL;
    lt_err err = { 0 };
    if (lt_tokenizer_open(&tok, folder, &err) != LT_OK || lt_chat_open(&chat, folder, tok, NULL, &err) != LT_OK)
        fail_msg("%s", err.message);
    assert_non_null(chat);
    check c = { .tok = tok, .chat = chat };
    snprintf(path, sizeof path, "%s/chat_cases.jsonl", folder);
    each_case(path, &c);
    print_message("%s: %zu records, %zu wrong\n", (const char *)*state, c.records, c.wrong);
    assert_int_equal(c.wrong, 0);
    assert_true(c.records >= 50);
    lt_chat_destroy(chat);
    lt_tokenizer_destroy(tok);
}

/* ---- constructs ---- */

static const char tokens_text[] = "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"pad_token\": null}";
static const char row_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" Be \xC3\xA9 nice. \"}, {\"role\": \"user\", \"content\": "
    "\"Hi\\n there \\t\", \"n\": 3, \"d\": {\"a\": 1, \"b\": null}}, {\"role\": \"assistant\", \"content\": \"ok\", "
    "\"calls\": [{\"name\": \"f\", \"args\": {\"x\": 1.5}}]}]}";

static lt_status render(const char *template, char **text, lt_err *err) {
    json_t *row = NULL, *tokens = NULL;
    lt_chat *chat = NULL;
    size_t bytes;
    assert_int_equal(lt_json_parse(&row, row_text, strlen(row_text), "row", NULL), LT_OK);
    assert_int_equal(lt_json_parse(&tokens, tokens_text, strlen(tokens_text), "tokens", NULL), LT_OK);
    lt_status st = lt_chat_from_text(&chat, template, strlen(template), "t", tokens, err);
    if (st == LT_OK) st = lt_chat_render(chat, row, true, text, &bytes, err);
    lt_chat_destroy(chat);
    json_decref(row);
    json_decref(tokens);
    return st;
}

static void gives(const char *template, const char *want) {
    char *text = NULL;
    lt_err err = { 0 };
    if (render(template, &text, &err) != LT_OK) fail_msg("%s: %s", template, err.message);
    assert_string_equal(text, want);
    lt_free(text);
}

static void fails(const char *template, lt_status code, const char *part) {
    char *text = NULL;
    lt_err err = { 0 };
    const lt_status st = render(template, &text, &err);
    if (st != code) fail_msg("%s: status %d, expected %d: %s", template, (int)st, (int)code, err.message);
    if (!strstr(err.message, part)) fail_msg("%s: no \"%s\" in: %s", template, part, err.message);
}

static void blanks_around_tags_are_trimmed_as_transformers_does(void **state) {
    (void)state;
    gives("a\n  {% if true %}\n  b\n  {% endif %}\n  c\n", "a\n  b\n  c");
    gives("a\n  {%- if true -%}\n  b\n  {%- endif -%}\n  c\n\n", "abc\n");
    gives("a  \n  {{- 1 -}}  \n b {{ 2 }} \n c\n", "a1b 2 \n c");
    gives("{# c #}\n  {# d #}  \nx {#- e -#}  y\n{# multi\nline #}\nz", "  \nxy\nz");
    gives("  {% if true +%}\n x\n  {%+ if true %}\n y {% endif %}{% endif %}", "\n x\n   y ");
    gives("{% raw %}{{ x }}{% endraw %}\n z  {%- raw -%}  {{ y }}  {%- endraw -%}  w", "{{ x }} z{{ y }}w");
    gives("\r\nA\rB{% if true %}\r\nC{% endif %}\r\n", "\nA\nBC");
}

static void expressions_mean_what_python_means(void **state) {
    (void)state;
    gives("{{ -3 // 2 }} {{ -3 % 5 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ (1 + 2) ~ 'x' }}", "-2 2 3.5 1024 3x");
    gives("{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1e-5 }} {{ 3.0 }}", "0.30000000000000004 1e+16 1e-05 3.0");
    gives("{{ [1, 'a', \"it's\", none, (3,), {'a': true}] }}", "[1, 'a', \"it's\", None, (3,), {'a': True}]");
    gives("{{ 1 < 2 < 3 }} {{ 'a' in 'abc' }} {{ 2 not in [1] }} {{ not 1 in [1] }}", "True True True False");
    gives("{{ messages[-1].role }} {{ messages[9] }} {{ 'ab\xC3\xA9' [::-1] }} {{ messages[1:] | length }}",
          "assistant  \xC3\xA9"
          "ba 2");
    gives("{{ 'x' if messages }}{{ 'y' if none }}{{ 'z' if false else 'w' }}", "xw");
    gives("{{ 'a,b,c'.split(',', 1) }} {{ ' a b '.strip() }} {{ 'abc'.startswith(('x', 'a')) }}",
          "['a', 'b,c'] a b True");
    gives("{{ messages[2].calls | tojson }} {{ '\xC3\xA9<' | tojson }}",
          "[{\"name\": \"f\", \"args\": {\"x\": 1.5}}] \"\xC3\xA9<\"");
    gives("{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join | trim }}",
          "Hi\n there");
    gives("{{ nope is defined }}{{ nope | default('d') }}{{ bos_token }}{{ pad_token is defined }}{{ tools is none }}",
          "Falsed<s>FalseTrue");
}

static void statements_keep_their_scopes(void **state) {
    (void)state;
    gives("{% set x = 1 %}{% for i in range(3) %}{{ x }}{% set x = 9 %}{% endfor %}{{ x }}", "1111");
    gives("{% set n = namespace(x=0) %}{% for i in range(3) %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}", "3");
    gives("{% for m in messages if m.role != 'system' %}{{ loop.index }}{{ loop.last }};{% else %}-{% endfor %}",
          "1False;2True;");
    gives("{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(b=3, a=f(0)) }}", "1-2 0-2-3");
    gives("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}"
          "{% endfor %}",
          "02");
    gives("{% set x %} a {% endset %}[{{ x }}]{% generation %}g{% endgeneration %}", "[ a ]g");
}

static void dates_are_those_of_the_environment(void **state) {
    (void)state;
    setenv("SOURCE_DATE_EPOCH", "1721952000", 1);
    setenv("TZ", "UTC", 1);
    gives("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024");
    unsetenv("SOURCE_DATE_EPOCH");
}

static void what_is_not_in_the_subset_is_refused_by_name(void **state) {
    (void)state;
    fails("{% include 'x' %}", LT_EUNSUPPORTED, "include");
    fails("{{ 'a' | groupby('x') }}", LT_EUNSUPPORTED, "the filter groupby");
    fails("{{ 1 is frobbed }}", LT_EUNSUPPORTED, "the test frobbed");
    fails("{{ 'a'.center(3) }}", LT_EUNSUPPORTED, "center");
    fails("\n\n{{ '%s' % 'x' }}", LT_EUNSUPPORTED, "line 3");
    fails("{{ lipsum() }}", LT_EUNSUPPORTED, "--template FILE");
    fails("{% for x in y recursive %}{% endfor %}", LT_EUNSUPPORTED, "recursive");
}

static void what_python_would_refuse_is_bad_data(void **state) {
    (void)state;
    fails("{{ raise_exception('not like this') }}", LT_EDATA, "not like this");
    fails("{{ nope.x }}", LT_EDATA, "'nope' is undefined");
    fails("{{ 1 + 'x' }}", LT_EDATA, "'int' and 'str'");
    fails("{{ 1 / 0 }}", LT_EDATA, "division by zero");
    fails("{% for i in 5 %}{% endfor %}", LT_EDATA, "not iterable");
    fails("{{ 1 + }}", LT_EDATA, "unexpected }}");
    fails("{% if true %}x", LT_EDATA, "'elif'");
    fails("{{ 'a }}", LT_EDATA, "string without an end");
    fails("{% endfor %}", LT_EUNSUPPORTED, "endfor");
    fails("\xC3", LT_EDATA, "not UTF-8");
}

static void hostile_templates_end(void **state) {
    (void)state;
    static char deep[4096];
    memset(deep, '(', sizeof deep - 1);
    memcpy(deep, "{{ ", 3);
    fails(deep, LT_EUNSUPPORTED, "deeper");
    fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", LT_EUNSUPPORTED, "deeper");
    fails("{{ 'x' * 9999999999 }}", LT_EUNSUPPORTED, "MiB");
    fails("{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
          LT_EUNSUPPORTED, "more than");
    fails("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", LT_EUNSUPPORTED,
          "more than");
    fails("{{ 9223372036854775807 + 1 }}", LT_EUNSUPPORTED, "64 bits");
}

/* ---- where a template comes from ---- */

static void put_file(const char *folder, const char *name, const char *text) {
    char *path = lt_path_join(folder, name);
    assert_int_equal(lt_file_write(path, text, strlen(text), NULL), LT_OK);
    lt_free(path);
}

static void opens_to(const char *folder, const char *row, const char *want) {
    lt_chat *chat = NULL;
    json_t *j = NULL;
    char *text = NULL;
    size_t bytes;
    lt_err err = { 0 };
    assert_int_equal(lt_json_parse(&j, row, strlen(row), "row", NULL), LT_OK);
    if (lt_chat_open(&chat, folder, NULL, NULL, &err) != LT_OK) fail_msg("%s", err.message);
    assert_non_null(chat);
    if (lt_chat_render(chat, j, false, &text, &bytes, &err) != LT_OK) fail_msg("%s", err.message);
    assert_string_equal(text, want);
    lt_free(text);
    json_decref(j);
    lt_chat_destroy(chat);
}

static void a_folder_says_its_template_in_three_ways(void **state) {
    (void)state;
    char folder[] = "/tmp/lathe-chat-XXXXXX";
    lt_chat *chat = NULL;
    lt_err err = { 0 };
    assert_non_null(mkdtemp(folder));
    assert_int_equal(lt_chat_open(&chat, folder, NULL, NULL, &err), LT_OK);
    assert_null(chat);
    put_file(folder, "special_tokens_map.json", "{\"bos_token\": {\"content\": \"<b>\"}, \"eos_token\": \"<x>\"}");
    put_file(folder, "tokenizer_config.json",
             "{\"chat_template\": \"{{ bos_token ~ eos_token }}\", \"eos_token\": \"<e>\"}");
    opens_to(folder, "{\"messages\": []}", "<b><e>");
    put_file(folder, "tokenizer_config.json",
             "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"T{{ tools | length }}\"}, "
             "{\"name\": \"default\", \"template\": \"D\"}]}");
    opens_to(folder, "{\"messages\": []}", "D");
    opens_to(folder, "{\"messages\": [], \"tools\": [1, 2]}", "T2");
    put_file(folder, "chat_template.jinja", "J{{ x }}{{ add_generation_prompt }}\n");
    opens_to(folder, "{\"messages\": [], \"chat_template_kwargs\": {\"x\": 5}, \"add_generation_prompt\": true}",
             "J5True");
    put_file(folder, "chat_template.jinja", "");
    put_file(folder, "tokenizer_config.json", "{\"chat_template\": 7}");
    lt_remove_tree(folder, NULL);
}

static void wrong_rows_are_named(void **state) {
    (void)state;
    static const char *const row[][2] = { { "{}", "\"messages\" is not a list" },
                                          { "{\"messages\": [1]}", "message 0 is not an object" },
                                          { "{\"messages\": [], \"chat_template_kwargs\": 1}",
                                            "chat_template_kwargs" } };
    lt_chat *chat = NULL;
    assert_int_equal(lt_chat_from_text(&chat, "x", 1, "t", NULL, NULL), LT_OK);
    for (size_t i = 0; i < LT_COUNTOF(row); i++) {
        json_t *j = NULL;
        char *text;
        size_t bytes;
        lt_err err = { 0 };
        assert_int_equal(lt_json_parse(&j, row[i][0], strlen(row[i][0]), "row", NULL), LT_OK);
        assert_int_equal(lt_chat_render(chat, j, false, &text, &bytes, &err), LT_EDATA);
        assert_non_null(strstr(err.message, row[i][1]));
        json_decref(j);
    }
    lt_chat_destroy(chat);
}

static void no_failed_allocation_is_lost(void **state) {
    (void)state;
    static const char template[] = "{% for m in messages %}{{ m.role ~ [m] | tojson }}{% endfor %}";
    for (size_t n = 0; n < 200; n++) {
        char *text = NULL;
        lt_err err = { 0 };
        json_t *row = NULL;
        lt_chat *chat = NULL;
        size_t bytes;
        assert_int_equal(lt_json_parse(&row, row_text, strlen(row_text), "row", NULL), LT_OK);
        lt_alloc_fail_after(n);
        lt_status st = lt_chat_from_text(&chat, template, strlen(template), "t", NULL, &err);
        if (st == LT_OK) st = lt_chat_render(chat, row, false, &text, &bytes, &err);
        lt_alloc_fail_after(SIZE_MAX);
        lt_chat_destroy(chat);
        json_decref(row);
        lt_free(text);
        if (st == LT_OK) return;
        assert_int_equal(st, LT_ENOMEM);
    }
    fail_msg("more than 200 allocations");
}

#define FOLDER(name)                                                                                                   \
    { "chats of " name, conversations_render_and_tokenize_as_recorded, NULL, NULL, name }

int main(void) {
    const struct CMUnitTest tests[] = {
        FOLDER("llama3"),
        FOLDER("llama2_legacy"),
        FOLDER("qwen2"),
        FOLDER("olmo2"),
        FOLDER("smollm2"),
        cmocka_unit_test(blanks_around_tags_are_trimmed_as_transformers_does),
        cmocka_unit_test(expressions_mean_what_python_means),
        cmocka_unit_test(statements_keep_their_scopes),
        cmocka_unit_test(dates_are_those_of_the_environment),
        cmocka_unit_test(what_is_not_in_the_subset_is_refused_by_name),
        cmocka_unit_test(what_python_would_refuse_is_bad_data),
        cmocka_unit_test(hostile_templates_end),
        cmocka_unit_test(a_folder_says_its_template_in_three_ways),
        cmocka_unit_test(wrong_rows_are_named),
        cmocka_unit_test(no_failed_allocation_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
