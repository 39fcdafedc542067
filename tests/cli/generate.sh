# SPDX-License-Identifier: Apache-2.0
# Greedy continuations of the reference, sampling by seed, streaming, interruption.
. "$(dirname "$0")/common.sh"

expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 12 --ignore-eos
cp "$TMP/stdout" "$TMP/a"
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 12 --ignore-eos --json --threads 1
"$HELPER" get "$TMP/stdout" text >"$TMP/b" || fail "--json has no text"
check cmp "$TMP/a" "$TMP/b"
printf 'The game' >"$TMP/prompt"
expect 0 "" "$LATHE" generate "$TINY" --prompt-file "$TMP/prompt" --max-new 12 --ignore-eos
check cmp "$TMP/stdout" "$TMP/a"

# the same seed, the same text; another seed, most likely another
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 24 --temperature 1.5 --seed 1
cp "$TMP/stdout" "$TMP/a"
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 24 --temperature 1.5 --seed 1 --threads 1
check cmp "$TMP/stdout" "$TMP/a"
expect 0 "" "$LATHE" generate "$TINY" --prompt "The game" --max-new 24 --temperature 1.5 --seed 2
cmp -s "$TMP/stdout" "$TMP/a" && fail "two seeds, one text"
expect 0 "peak memory" "$LATHE" generate "$TINY" --prompt x --estimate
expect 3 "positions" "$LATHE" generate "$TINY" --prompt x --max-new 10000000

# interrupted at the first token that comes: 130, and no more than a line of error
"$LATHE" generate "$TINY" --prompt x --max-new 100000 --ignore-eos >/dev/null 2>"$TMP/stderr" && fail "more tokens than positions"
mkfifo "$TMP/fifo"
"$LATHE" generate "$TINY" --prompt x --ignore-eos --max-new 250 >"$TMP/fifo" 2>"$TMP/stderr" &
pid=$!
exec 3<"$TMP/fifo"
head -c 1 <&3 >/dev/null
kill -INT $pid
cat <&3 >/dev/null
wait $pid
code=$?
exec 3<&-
[ $code -eq 130 ] || [ $code -eq 0 ] || fail "SIGINT: exit code $code"

models=$SHARED/golden/models
need "$models/llama-gqa"
for name in llama-mha llama-gqa llama-bias; do
    gold=$models/$name/golden.safetensors
    expect 0 "" "$LATHE" generate "$models/$name" --prompt-ids "$("$HELPER" ids "$gold" input_ids)" --max-new 16 --ignore-eos --json
    got=$("$HELPER" get "$TMP/stdout" ids)
    [ "$got" = "[$("$HELPER" ids "$gold" greedy_ids)]" ] || fail "$name: greedy ids $got"
done
done_testing
