/* SPDX-License-Identifier: Apache-2.0 */
#include "pipeline/prompt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"

static lt_status parse_ids(int32_t **ids, size_t *n, const char *text, lt_err *err) {
    int32_t *list = lt_malloc((strlen(text) / 2 + 1) * sizeof *list);
    *n = 0;
    if (!list) return lt_fail(err, LT_ENOMEM, "--prompt-ids: out of memory");
    for (const char *blank = ", \t\n"; *(text += strspn(text, blank));) {
        char *end;
        errno = 0;
        const long id = strtol(text, &end, 10);
        if (end == text || errno || id < 0 || id > INT32_MAX || (*end && !strchr(blank, *end))) {
            lt_free(list);
            return lt_fail(err, LT_EUSAGE, "--prompt-ids: \"%.*s\" is not a token id",
                           (int)lt_min_size(strcspn(text, blank), 20), text);
        }
        list[(*n)++] = (int32_t)id;
        text = end;
    }
    *ids = list;
    return LT_OK;
}

static lt_status from_file(int32_t **ids, size_t *n, const char *path, const lt_tokenizer *tok, bool add_special,
                           lt_err *err) {
    char *text;
    size_t bytes;
    const char *name = strcmp(path, "-") == 0 ? "/dev/stdin" : path;
    LT_TRY(lt_file_read(&text, &bytes, name, 0, err));
    lt_status st = lt_tokenizer_encode(tok, text, bytes, add_special, ids, n, err);
    if (st != LT_OK) st = lt_context(err, st, "%s", path);
    lt_free(text);
    return st;
}

lt_status lt_prompt_read(int32_t **ids, size_t *n, const lt_args *args, const lt_tokenizer *tok, lt_err *err) {
    const char *text = lt_arg_string(args, "prompt"), *file = lt_arg_string(args, "prompt-file"),
               *list = lt_arg_string(args, "prompt-ids");
    const bool special = lt_arg_flag(args, "add-special");
    LT_REQUIRE(err, (text != NULL) + (file != NULL) + (list != NULL) == 1,
               "one of --prompt, --prompt-file and --prompt-ids is needed");
    *ids = NULL;
    *n = 0;
    if (list)
        LT_TRY(parse_ids(ids, n, list, err));
    else if (!tok)
        return lt_fail(err, LT_EDATA, "the model has no tokenizer: only --prompt-ids can be used");
    else if (file)
        LT_TRY(from_file(ids, n, file, tok, special, err));
    else
        LT_TRY(lt_tokenizer_encode(tok, text, strlen(text), special, ids, n, err));
    if (*n > 0) return LT_OK;
    lt_free(*ids);
    *ids = NULL;
    return lt_fail(err, LT_EUSAGE, "the prompt has no tokens");
}
