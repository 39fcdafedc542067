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

# a signal while the prompt is read: the verb stops at its first step
for signal in INT TERM; do
    rm -f "$TMP/fifo"
    mkfifo "$TMP/fifo"
    "$LATHE" generate "$TINY" --prompt-file - --ignore-eos <"$TMP/fifo" >"$TMP/stdout" 2>"$TMP/stderr" &
    pid=$!
    exec 3>"$TMP/fifo"
    for _ in $(seq 200); do # until the handler is there: bits 2 (INT) and 15 (TERM) of the caught signals
        grep -q 'SigCgt:.*4..2$' "/proc/$pid/status" && break
        sleep 0.05
    done
    kill -s $signal $pid
    printf 'The game' >&3
    exec 3>&-
    wait $pid
    code=$?
    [ $code -eq 130 ] || fail "SIG$signal: exit code $code"
    one_error_line
    grep -q interrupted "$TMP/stderr" || fail "SIG$signal: $(cat "$TMP/stderr")"
done

models=$SHARED/golden/models
need "$models/llama-gqa"
for name in llama-mha llama-gqa llama-bias; do
    gold=$models/$name/golden.safetensors
    expect 0 "" "$LATHE" generate "$models/$name" --prompt-ids "$("$HELPER" ids "$gold" input_ids)" --max-new 16 --ignore-eos --json
    got=$("$HELPER" get "$TMP/stdout" ids)
    [ "$got" = "[$("$HELPER" ids "$gold" greedy_ids)]" ] || fail "$name: greedy ids $got"
done
done_testing
