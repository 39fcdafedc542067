# SPDX-License-Identifier: Apache-2.0
# Ids and texts of the reference tokenizer library, through the program; and the forms of input.
. "$(dirname "$0")/common.sh"

# forms of input: file, standard input, plain text, token file
printf 'The game began .\n' >"$TMP/plain.txt"
expect 0 "" "$LATHE" tokenize "$TINY" --input "$TMP/plain.txt" --output "$TMP/plain.jsonl"
"$LATHE" tokenize "$TINY" <"$TMP/plain.txt" >"$TMP/stdin.jsonl" || fail "standard input"
check cmp "$TMP/plain.jsonl" "$TMP/stdin.jsonl"
"$LATHE" detokenize "$TINY" --input "$TMP/plain.jsonl" --output "$TMP/back.jsonl" >/dev/null || fail "detokenize"
printf '{"text":"The game began .\\n"}\n' >"$TMP/want.jsonl"
check "$HELPER" jsonl "$TMP/back.jsonl" text "$TMP/want.jsonl" text
grep -o '[0-9,]*' "$TMP/plain.jsonl" | tr -d '\n' | "$LATHE" detokenize "$TINY" >"$TMP/back.txt" || fail "plain ids"
check cmp "$TMP/back.txt" "$TMP/plain.txt"
printf '{"text":"a","add_special":false}\n\n{"text":"b"}\n' | "$LATHE" tokenize "$TINY" | grep -c ids >"$TMP/n"
[ "$(cat "$TMP/n")" -eq 2 ] || fail "two rows of JSON lines"
"$LATHE" tokenize "$TINY" --input "$TMP/plain.txt" --json | grep -q '"text": "{\\"ids\\":' || fail "--json carries the text"
cat "$REPO"/share/text/wikitext2-test-slice.txt >"$TMP/long.txt"
expect 0 "" "$LATHE" tokenize "$TINY" --input "$TMP/long.txt" --pack 64 --max-rows 5 --output "$TMP/tokens.safetensors"
expect 0 "recipe" "$LATHE" inspect "$TMP/tokens.safetensors"
expect 2 "--pack needs --output" "$LATHE" tokenize "$TINY" --input "$TMP/long.txt" --pack 64
gzip -c "$TMP/plain.txt" >"$TMP/plain.gz"
"$LATHE" tokenize "$TINY" --input "$TMP/plain.gz" >"$TMP/gz.jsonl" || fail "gzip"
check cmp "$TMP/plain.jsonl" "$TMP/gz.jsonl"

# goldens
cases=$SHARED/golden/tokenizer
need "$cases/smollm2/cases.jsonl"
for folder in "$cases"/*/; do
    folder=${folder%/} name=$(basename "$folder")
    [ -e "$folder/cases.jsonl" ] || continue
    "$LATHE" tokenize "$folder" --input "$folder/cases.jsonl" --output "$TMP/ids.jsonl" >/dev/null 2>"$TMP/stderr"
    code=$?
    if [ $code -eq 6 ]; then
        echo "$name: not supported: $(cat "$TMP/stderr")"
        continue
    fi
    [ $code -eq 0 ] || { fail "$name: exit code $code: $(cat "$TMP/stderr")"; continue; }
    check "$HELPER" jsonl "$TMP/ids.jsonl" ids "$folder/cases.jsonl" ids
    "$LATHE" detokenize "$folder" --input "$folder/cases.jsonl" --output "$TMP/texts.jsonl" >/dev/null || fail "$name: detokenize"
    check "$HELPER" jsonl "$TMP/texts.jsonl" text "$folder/cases.jsonl" decoded_skip_special
    "$LATHE" detokenize "$folder" --input "$folder/cases.jsonl" --output "$TMP/texts.jsonl" --no-skip-special >/dev/null || fail "$name: detokenize"
    check "$HELPER" jsonl "$TMP/texts.jsonl" text "$folder/cases.jsonl" decoded_full
done
done_testing
