/* SPDX-License-Identifier: Apache-2.0 */
/* chat/jinja_text.h - what filters and methods of strings and dicts share. */
#ifndef LT_CHAT_JINJA_TEXT_H
#define LT_CHAT_JINJA_TEXT_H

#include "chat/jinja_value.h"

const lt_jfn *lt_j_row(const lt_jfn *row, size_t n_rows, const char *name, size_t n);

/* TITLE is str.title(), TITLE_FILTER what Jinja's filter of that name does: words begin behind blanks and brackets. */
typedef enum lt_jcase { LT_J_UPPER, LT_J_LOWER, LT_J_CAPITALIZE, LT_J_TITLE, LT_J_TITLE_FILTER } lt_jcase;
lt_status lt_j_case(lt_jctx *c, lt_jv s, lt_jcase how, lt_jv *out);
/* count: UNSET, NONE or < 0: all */
lt_status lt_j_replace(lt_jctx *c, lt_jv s, lt_jv old, lt_jv with, lt_jv count, lt_jv *out);
lt_status lt_j_lines(lt_jctx *c, lt_jv s, bool keep_ends, lt_jv *out); /* str.splitlines */
lt_status lt_j_pairs(lt_jctx *c, const lt_jdict *d, lt_jv *out);       /* dict.items: a view of tuples */

#endif
