/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/normal_form.h - NFC, NFD, NFKC, NFKD as the `tokenizers` library computes them: with the data of Unicode 9.
 *
 * Decompositions, combining classes and compositions come from utf8proc, whatever its Unicode version: they are stable
 * for assigned code points, and code points that came after Unicode 9 (LT_UNI_NEW) are kept from it.
 * Source: Unicode Standard Annex 15, section 1.3 and the definitions of section 3.11 of the Standard. */
#ifndef LT_TOKENIZER_NORMAL_FORM_H
#define LT_TOKENIZER_NORMAL_FORM_H

#include "tokenizer/text.h"

/* Appends the normal form of in (valid UTF-8) to out. O(n log n) also for hostile runs of marks. */
lt_status lt_normal_form(const char *in, size_t bytes, bool compatibility, bool compose, lt_tok_buf *out, lt_err *err);

#endif
