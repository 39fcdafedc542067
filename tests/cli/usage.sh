# SPDX-License-Identifier: Apache-2.0
# What a wrong command line gets: exit code 2, one line, a suggestion. What help says: every verb, every option.
. "$(dirname "$0")/common.sh"

expect 2 "no verb is given" "$LATHE"
expect 2 'unknown verb "tokenise" (did you mean tokenize?)' "$LATHE" tokenise x
one_error_line
expect 2 'unknown verb "bench"' "$LATHE" bench
expect 2 'unknown verb "bench prefil" (did you mean bench prefill?)' "$LATHE" bench prefil x
expect 2 "unknown option --max-nwe (did you mean --max-new?)" "$LATHE" generate "$TINY" --max-nwe 3
one_error_line
expect 2 "unknown option -x" "$LATHE" generate "$TINY" -x
expect 2 "unknown option --frobnicate before a verb" "$LATHE" --frobnicate
expect 2 "model is missing" "$LATHE" generate
expect 2 'unexpected argument "b"' "$LATHE" generate a b --prompt x
expect 2 "--max-new: a value is missing" "$LATHE" generate "$TINY" --max-new
expect 2 "--max-new: a value is missing" "$LATHE" generate "$TINY" --max-new --json
expect 2 "--max-new: 0 is outside 1 .. 16777216" "$LATHE" generate "$TINY" --max-new 0
expect 2 "--max-new: -3 is outside" "$LATHE" generate "$TINY" --max-new -3
expect 2 '--max-new: "many" is not a whole number' "$LATHE" generate "$TINY" --max-new=many
expect 2 "--temperature: -0.5 is outside 0 .. 100" "$LATHE" generate "$TINY" --prompt x --temperature -0.5
expect 2 '--kv-dtype: "q8" is not one of f32, f16, bf16, q8_0' "$LATHE" generate "$TINY" --kv-dtype q8
expect 2 "--max-new: given more than once" "$LATHE" generate "$TINY" --max-new 1 --max-new 2
expect 2 "--input is missing" "$LATHE" forward "$TINY" --output x
expect 2 "--max-memory: \"lots\" is not a size" "$LATHE" inspect "$TINY" --max-memory lots
expect 2 "--estimate" "$LATHE" inspect "$TINY" --estimate
expect 2 "one of --prompt" "$LATHE" generate "$TINY"
expect 2 "no topic \"method\" (did you mean methods?)" "$LATHE" list method
expect 2 "the path is empty" "$LATHE" inspect ""

# values in every form
expect 0 "" "$LATHE" --threads 1 inspect "$TINY" --max-memory=2G --quiet
expect 0 "" "$LATHE" inspect --threads=1 -- "$TINY"
expect 0 "" "$LATHE" generate "$TINY" --prompt a --max-new 1 --no-add-special --temperature=0 --seed 7

# OpenBLAS's choice of kernels is corrected, unless somebody else chose
expect 0 "" env -u OPENBLAS_CORETYPE "$LATHE" inspect "$TINY"
! grep -q "OPENBLAS_CORETYPE" "$TMP/stderr" || fail "slow kernels: $(cat "$TMP/stderr")"
env OPENBLAS_CORETYPE=Prescott "$LATHE" inspect "$TINY" -v >/dev/null 2>"$TMP/chosen" || fail "a chosen core type"
if grep -q "Prescott.*kernels \(avx2\|avx512\|amx\)" "$TMP/chosen"; then
    grep -q "warning: .*OPENBLAS_CORETYPE=\(Haswell\|SkylakeX\) " "$TMP/chosen" || fail "no warning of slow kernels"
fi

# help
expect 0 "usage: lathe VERB" "$LATHE" --help
expect 0 "usage: lathe generate MODEL" "$LATHE" generate --help
expect 0 "usage: lathe bench decode MODEL" "$LATHE" help bench decode
expect 0 "lathe $("$LATHE" --version | cut -d' ' -f2)" "$LATHE" --version
"$LATHE" list commands --json >"$TMP/commands.json"
n=0
while "$HELPER" get "$TMP/commands.json" "tables.0.rows.$n.0" >"$TMP/verb" 2>/dev/null; do
    verb=$(cat "$TMP/verb")
    expect 0 "usage: lathe $verb" "$LATHE" $verb --help
    grep -q "^example" "$TMP/stdout" || fail "$verb: no example"
    "$LATHE" --help | grep -q "^  $verb " || fail "$verb is not in the list of verbs"
    n=$((n + 1))
done
[ "$n" -ge 8 ] || fail "only $n verbs"
done_testing
