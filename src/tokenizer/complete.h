/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/complete.h - members of a tokenizer.json that readers take for granted and the `tokenizers` library insists
 * on, written out; private to the room. Source: serialisation of tokenizers 0.22. */
#ifndef LT_TOKENIZER_COMPLETE_H
#define LT_TOKENIZER_COMPLETE_H

#include "io/json.h"

/* Members of a JSON text that the object has not. */
lt_status lt_tokenizer_complete(json_t *object, const char *defaults, lt_err *err);
/* Members of a part of a tokenizer.json, and of the parts in it, that have defaults. */
lt_status lt_tokenizer_complete_part(json_t *part, lt_err *err);

#endif
