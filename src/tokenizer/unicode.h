/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer/unicode.h - properties of code points as the `tokenizers` library has them.
 *
 * General categories and \w of Oniguruma are those of Unicode 16; Rust's is_numeric and lowercase are Unicode 17's;
 * normal forms are Unicode 9's.
 * The tables are asked from the library itself (tools/unicode_tables.py) and do not depend on the Unicode version of
 * any installed library. */
#ifndef LT_TOKENIZER_UNICODE_H
#define LT_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* General categories in alphabetical order: Cn Cc Cf Co Cs Ll ... Zs. */
#define LT_UNI_N_CATEGORIES 30
enum {
    LT_UNI_CATEGORY = 0x1F,     /* mask of the category's number in the properties */
    LT_UNI_WHITE = 1 << 5,      /* White_Space: \s everywhere */
    LT_UNI_NUMERIC = 1 << 6,    /* Rust's char::is_numeric */
    LT_UNI_WORD = 1 << 7,       /* \w of the regex crate */
    LT_UNI_ONIG_WORD = 1 << 8,  /* \w of Oniguruma */
    LT_UNI_HAN = 1 << 9,        /* script Han */
    LT_UNI_PUNCT = 1 << 10,     /* the library's is_punctuation: ASCII punctuation and P* of an older Unicode */
    LT_UNI_NEW = 1 << 11,       /* came after Unicode 9: normal forms leave it alone */
    LT_UNI_MARK = 1 << 12,      /* what StripAccents removes */
    LT_UNI_BERT_MARK = 1 << 13, /* what BertNormalizer removes as an accent (after NFD) */
    LT_UNI_BERT_REMOVED = 1 << 14
}; /* what BertNormalizer removes as noise: controls, formats, private use */

unsigned lt_uni_props(uint32_t cp);

/* U+0130, which becomes two code points, comes back as it is. */
uint32_t lt_uni_lower(uint32_t cp);

/* Sets of categories as bit masks: 1 << number. */
#define LT_UNI_L 0x3E0u  /* Ll Lm Lo Lt Lu */
#define LT_UNI_N 0xE000u /* Nd Nl No */
static inline bool lt_uni_in(unsigned props, uint32_t categories) {
    return categories >> (props & LT_UNI_CATEGORY) & 1;
}
/* "L", "Lu", "N": the mask; 0 for a name that is no general category. */
uint32_t lt_uni_categories(const char *name, size_t bytes);

/* Runs of code points with equal properties, in order, covering all of Unicode. */
typedef struct lt_uni_run {
    uint32_t first, last;
    unsigned props;
} lt_uni_run;
size_t lt_uni_n_runs(void);
lt_uni_run lt_uni_run_at(size_t i);

#endif
