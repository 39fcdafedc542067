# SPDX-License-Identifier: Apache-2.0
# Chats through the model's own template: tokenize, generate, data rows; and what a model without one says.
. "$(dirname "$0")/common.sh"

model=$TMP/model
cp -r "$TINY" "$model" # the tiny model's tokenizer knows no chat; a ChatML-like template of plain text does
cat >"$TMP/template.jinja" <<'END'
{%- for m in messages %}
    {{- '[' + m.role + '] ' + m.content | trim + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}
END
printf '{"messages": [{"role": "user", "content": " The game "}, {"role": "assistant", "content": "began ."}]}\n' >"$TMP/chat.jsonl"

expect 6 "has no chat template" "$LATHE" tokenize "$TINY" --chat --input "$TMP/chat.jsonl"
expect 3 "give --chat" "$LATHE" tokenize "$TINY" --input "$TMP/chat.jsonl"
expect 2 "need --chat" "$LATHE" tokenize "$TINY" --template "$TMP/template.jinja" --input "$TMP/chat.jsonl"
printf '{"text":"[user] The game\\n[assistant] began .\\n"}\n' >"$TMP/want"
"$LATHE" tokenize "$TINY" --chat --template "$TMP/template.jinja" --rendered --input "$TMP/chat.jsonl" >"$TMP/got" || fail "--rendered"
check cmp "$TMP/got" "$TMP/want"
cp "$TMP/template.jinja" "$model/chat_template.jinja"
"$LATHE" tokenize "$model" --chat --add-generation-prompt --rendered --input "$TMP/chat.jsonl" | grep -q 'assistant\] "' || fail "generation prompt"
"$LATHE" tokenize "$model" --no-add-special --input "$TMP/want" >"$TMP/want.ids" || fail "plain"
"$LATHE" tokenize "$model" --chat --input "$TMP/chat.jsonl" >"$TMP/got.ids" || fail "ids"
check cmp "$TMP/got.ids" "$TMP/want.ids"

# a prompt of a user is the same as its messages, and as the text that the template makes of them
expect 2 "only with --chat" "$LATHE" generate "$model" --prompt x --system y
expect 6 "has no chat template" "$LATHE" generate "$TINY" --prompt x --chat
expect 0 "" "$LATHE" generate "$model" --chat --system "Be brief ." --prompt "The game" --max-new 8 --ignore-eos
cp "$TMP/stdout" "$TMP/a"
expect 0 "" "$LATHE" generate "$model" --prompt "[system] Be brief .
[user] The game
[assistant] " --no-add-special --max-new 8 --ignore-eos
check cmp "$TMP/stdout" "$TMP/a"
printf '{"messages": [{"role": "system", "content": "Be brief ."}, {"role": "user", "content": "The game"}]}\n' >"$TMP/prompts.jsonl"
expect 0 "" "$LATHE" generate "$model" --chat --prompts "$TMP/prompts.jsonl" --max-new 8 --ignore-eos
"$HELPER" get "$TMP/stdout" text >"$TMP/b" || fail "no text"
check cmp "$TMP/a" "$TMP/b"
expect 3 "give --chat" "$LATHE" generate "$model" --prompts "$TMP/prompts.jsonl" --max-new 8

# rows of messages as data
for _ in $(seq 40); do cat "$TMP/chat.jsonl"; done >"$TMP/data.jsonl"
expect 0 "" "$LATHE" evaluate perplexity "$model" --data "$TMP/data.jsonl" --recipe plain --window 16 --json
expect 6 "need a chat template" "$LATHE" evaluate perplexity "$TINY" --data "$TMP/data.jsonl" --recipe plain --window 16
expect 0 "" "$LATHE" evaluate perplexity "$TINY" --data "$TMP/data.jsonl" --recipe plain --window 16 --template "$TMP/template.jinja"

# what cannot be rendered says so, and only where it is asked for
printf '{%% include "x" %%}' >"$model/chat_template.jinja"
expect 6 "include" "$LATHE" tokenize "$model" --chat --input "$TMP/chat.jsonl"
one_error_line
expect 0 "" "$LATHE" generate "$model" --prompt "The game" --max-new 2
printf '{{ raise_exception("no such role") }}' >"$model/chat_template.jinja"
expect 3 "no such role" "$LATHE" tokenize "$model" --chat --input "$TMP/chat.jsonl"

# goldens
cases=$SHARED/golden/tokenizer
need "$cases/smollm2/chat_cases.jsonl"
for folder in "$cases"/*/; do
    folder=${folder%/} name=$(basename "$folder")
    [ -e "$folder/chat_cases.jsonl" ] || continue
    grep '"rendered":' "$folder/chat_cases.jsonl" >"$TMP/cases.jsonl"
    "$LATHE" tokenize "$folder" --chat --input "$TMP/cases.jsonl" --output "$TMP/ids.jsonl" >/dev/null || fail "$name"
    check "$HELPER" jsonl "$TMP/ids.jsonl" ids "$TMP/cases.jsonl" ids
    "$LATHE" tokenize "$folder" --chat --rendered --input "$TMP/cases.jsonl" --output "$TMP/texts.jsonl" >/dev/null || fail "$name"
    check "$HELPER" jsonl "$TMP/texts.jsonl" text "$TMP/cases.jsonl" rendered
done
done_testing
