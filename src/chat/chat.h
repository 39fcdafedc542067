/* SPDX-License-Identifier: Apache-2.0 */
/* chat/chat.h - messages to text by a model's own chat template.
 *
 * A template is Jinja as transformers runs it (apply_chat_template: trim_blocks, lstrip_blocks, raise_exception,
 * strftime_now, {% generation %}); the subset that is read stands in docs/formats/chat.md. What lies outside of it is
 * LT_EUNSUPPORTED naming the construct, never another rendering. A template that refuses its messages (raise_exception)
 * or trips over them is LT_EDATA with its own message.
 * Objects are immutable after opening; renderings may run in many threads at once. */
#ifndef LT_CHAT_CHAT_H
#define LT_CHAT_CHAT_H

#include "io/json.h"
#include "tokenizer/tokenizer.h"

struct lt_gguf;
typedef struct lt_chat lt_chat;

/* The template of a model, or of `file` where it is not NULL; *out NULL: the model has none.
 *   folder: chat_template.jinja, else chat_template of tokenizer_config.json (a string or a list of named ones)
 *   GGUF:   tokenizer.chat_template, tokenizer.chat_template.NAME
 * The names default and tool_use (for rows with tools) are used. Special tokens (bos_token, ...) come from
 * tokenizer_config.json and special_tokens_map.json; where those do not say, or for a GGUF, from the tokenizer. */
lt_status lt_chat_open(lt_chat **out, const char *folder, const lt_tokenizer *tok, const char *file, lt_err *err);
lt_status lt_chat_from_gguf(lt_chat **out, const struct lt_gguf *g, const lt_tokenizer *tok, const char *file,
                            lt_err *err);
/* tokens: {"bos_token": "<s>", ...} or NULL; where: for messages. */
lt_status lt_chat_from_text(lt_chat **out, const char *text, size_t bytes, const char *where, const json_t *tokens,
                            lt_err *err);
void lt_chat_destroy(lt_chat *c);

/* row: {"messages": [{"role", "content", ...}, ...]} and what else the template may look at: "tools", "documents",
 * "add_generation_prompt" (else the argument counts), "chat_template_kwargs": {...}. *text: NUL-terminated, lt_free.
 * strftime_now is the local time, or SOURCE_DATE_EPOCH where the environment sets it. */
lt_status lt_chat_render(const lt_chat *c, const json_t *row, bool add_generation_prompt, char **text, size_t *bytes,
                         lt_err *err);
/* The same as ids: the template writes every special token itself, so none are added. lt_free. */
lt_status lt_chat_encode(const lt_chat *c, const lt_tokenizer *tok, const json_t *row, bool add_generation_prompt,
                         int32_t **ids, size_t *n, lt_err *err);
/* {"messages": [system, user]}, system NULL: none. New reference. */
lt_status lt_chat_row(json_t **row, const char *system, const char *user, size_t user_bytes, lt_err *err);

#endif
