# SPDX-License-Identifier: Apache-2.0
# bench gives numbers that hang together; that they are good is what bench/ and docs/performance.md are about.
. "$(dirname "$0")/common.sh"
value() { "$HELPER" get "$TMP/stdout" "$1"; }
product() { awk -v a="$1" -v b="$2" -v c="$3" 'BEGIN { d = a * b / c; exit !(d > 0.999 && d < 1.001) }'; }

for score in last all none; do
    expect 0 "tokens_per_second" "$LATHE" bench prefill "$TINY" --tokens 32 --runs 2 --score $score --json
    product "$(value value.flops)" "$(value value.tokens_per_second)" "$(awk -v f="$(value value.flops_per_second)" 'BEGIN { print f * 32 }')" ||
        fail "prefill, $score: FLOP/s and tokens/s disagree"
    value value.flops >"$TMP/flops.$score"
done
awk 'FNR == 1 { f[++n] = $1 } END { exit !(f[1] > f[2] && f[2] > f[3]) }' "$TMP/flops.all" "$TMP/flops.last" "$TMP/flops.none" ||
    fail "scoring more costs more"
expect 0 "share" "$LATHE" bench decode "$TINY" --tokens 8 --runs 1 --kv-dtype f16
expect 0 "kv_bytes" "$LATHE" bench decode "$TINY" --tokens 8 --runs 1 --json
product "$(value value.bytes_per_token)" "$(value value.tokens_per_second)" "$(value value.bytes_per_second)" || fail "decode: bytes/s and tokens/s disagree"
expect 2 "positions" "$LATHE" bench prefill "$TINY" --tokens 4096
expect 2 "positions" "$LATHE" bench decode "$TINY" --tokens 4096
done_testing
