# SPDX-License-Identifier: Apache-2.0
# Recipes: what runs, what is skipped, shards, discarded models, a kill in between, and what is refused.
. "$REPO/tests/cli/common.sh"
cd "$TMP" || exit 1
sed -e "s|share/|$REPO/share/|" "$REPO/share/recipes/methods.yaml" >r.yaml
QUICK="--set set.rows=4 --set set.windows=2"

states() { grep -o '"state": "[^"]*"' "$TMP/stdout" | sort | uniq -c | tr -s ' \n' ' '; }

expect 0 "to do" "$LATHE" run r.yaml -o out $QUICK --dry-run
[ -e out ] && fail "a dry run made something"
expect 0 "" "$LATHE" run r.yaml -o out $QUICK --shard 1/2 --json
[ "$(states)" = ' 8 "state": "done" 6 "state": "of another shard" ' ] || fail "shard 1: $(states)"
expect 0 "" "$LATHE" run r.yaml -o out $QUICK --shard 2/2 --json
[ "$(states)" = ' 2 "state": "done before" 6 "state": "done" 6 "state": "of another shard" ' ] || fail "shard 2: $(states)"
expect 0 "" "$LATHE" run r.yaml -o out $QUICK --json
[ "$(states)" = ' 14 "state": "done before" ' ] || fail "again: $(states)"
check test -e "out/method=whitened,keep=0.6/small/model/model.safetensors"

# what has changed runs again, and nothing else
expect 0 "" "$LATHE" run r.yaml -o out $QUICK --set 'matrix.keep=[0.8, 0.7]' --json
[ "$(states)" = ' 8 "state": "done before" 6 "state": "done" ' ] || fail "another axis value: $(states)"

# without the models the results stay, and count
expect 0 "" "$LATHE" run r.yaml -o out $QUICK --discard-models
[ -z "$(find out/method=whitened,keep=0.8 -name model.safetensors)" ] || fail "models were not discarded"
check test -e "out/method=whitened,keep=0.8/small/plan.json"
expect 0 "" "$LATHE" run r.yaml -o out $QUICK --json
[ "$(states)" = ' 14 "state": "done before" ' ] || fail "after discarding: $(states)"

# killed anywhere, the same command ends with the same bytes
"$LATHE" run r.yaml -o killed $QUICK >/dev/null 2>&1 &
pid=$!
sleep 0.4
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
expect 0 "" "$LATHE" run r.yaml -o killed $QUICK
expect 0 "" "$LATHE" run r.yaml -o whole $QUICK
for f in tiny.stats.safetensors "method=weight_svd,keep=0.6/plan.json" "method=weight_svd,keep=0.6/small/model/model.safetensors"; do
    cmp -s "killed/$f" "whole/$f" || fail "$f differs after a kill"
done

[ -z "$(find whole -name '*.lock' -o -type d -empty)" ] || fail "left behind: $(find whole -name '*.lock' -o -type d -empty)"

# a cell that fails loses no other: what uses it is not run, it is in the report, and the exit code says so
for jobs in 1 2; do
    expect 7 "2 of 14 jobs failed, 4 that use them were not run; the first: step plan method=whitened,keep=0.001: keep" \
        "$LATHE" run r.yaml -o fails$jobs $QUICK --set 'matrix.keep=[0.001, 0.8]' --jobs $jobs --json
    [ "$(states)" = ' 8 "state": "done" 2 "state": "failed" 4 "state": "not run" ' ] || fail "with failures: $(states)"
    [ "$(grep -c '"code": 7' stdout)" -eq 2 ] || fail "not two failures told"
    expect 0 "method=weight\_svd,keep=0.001 | keep linears=0.001" "$LATHE" report fails$jobs -o - --format md
    check grep -q "6 jobs are not done; the first: step plan method=whitened,keep=0.001" stderr
done
expect 0 "" "$LATHE" run r.yaml -o fails1 $QUICK --set 'matrix.keep=[0.6, 0.8]' --json
[ "$(states)" = ' 8 "state": "done before" 6 "state": "done" ' ] || fail "failures mended: $(states)"

# what is of another recipe stays, and is not reported
check grep -q "not in this one" stderr
"$LATHE" report fails1 -o - --format csv | grep -q ',0.001,' && fail "a cell of the recipe before is reported"

# two shards that need the same folder: one makes it, the other waits
cat >shared.yaml <<Y
matrix: {window: [32, 64]}
steps:
  - {name: cut, verb: compress, with: {model: $REPO/share/models/tiny-llama, data: $REPO/share/text/wikitext2-valid-slice.txt, seq-len: 64, max-rows: 8, method: whitened, keep: linears=0.8, compare: false}}
  - {name: quality, verb: evaluate perplexity, with: {model: "\${cut}", data: $REPO/share/text/wikitext2-test-slice.txt, window: "\${window}", max-windows: 2}}
Y
"$LATHE" run shared.yaml -o shared --shard 1/2 >/dev/null 2>one.err &
expect 0 "" "$LATHE" run shared.yaml -o shared --shard 2/2
wait $! || fail "the other shard: $(cat one.err)"

# shards in folders of their own are one study
expect 0 "" "$LATHE" run shared.yaml -o half1 --shard 1/2
expect 0 "1 jobs are not done" "$LATHE" report half1 -o - --format csv
expect 0 "" "$LATHE" run shared.yaml -o half2 --shard 2/2
expect 0 "" "$LATHE" report half1 half2 -o - --format md
grep -q "not done" stdout stderr && fail "the halves are not one"
[ "$("$LATHE" report half1 half2 -o - --format csv | sort)" = "$("$LATHE" report shared -o - --format csv | sort)" ] || fail "the halves say something else"

# side by side: the same bytes as one after the other; within a limit; in shards; after signals
same_as_whole() {
    local f
    while read -r f; do cmp -s "$1/$f" "whole/$f" || fail "$1/$f is not what one step at a time gives"; done < <(
        cd whole && find . -name '*.safetensors' -o -name plan.json | grep -v lathe.json)
    [ "$(find "$1" -name '*.step.json' | wc -l)" -eq 14 ] || fail "$1: not 14 records"
    [ -z "$(find "$1" -name '*.partial')" ] || fail "$1: unfinished work is left"
}
values() { "$LATHE" report "$1" -o - --format csv; }
gone() { # no process of a run in this folder
    for _ in $(seq 100); do
        grep -lsz -- "--output=$1\$" /proc/[0-9]*/cmdline >/dev/null || return 0
        sleep 0.1
    done
    fail "processes of $1 are left"
}
expect 0 "" "$LATHE" run r.yaml -o side $QUICK --jobs 3 --max-memory 400M --json
[ "$(states)" = ' 14 "state": "done" ' ] || fail "side by side: $(states)"
same_as_whole side
[ "$(values side)" = "$(values whole)" ] || fail "other values side by side"
"$LATHE" run r.yaml -o shards $QUICK --jobs 2 --shard 1/2 >/dev/null 2>one.err &
expect 0 "" "$LATHE" run r.yaml -o shards $QUICK --jobs 2 --shard 2/2
wait $! || fail "the other shard: $(cat one.err)"
same_as_whole shards
expect 0 "" "$LATHE" run r.yaml -o few $QUICK --set 'matrix.keep=[0.8]' --jobs 2 --discard-models
[ -z "$(find few -name model.safetensors)" ] || fail "models were not discarded side by side"
for signal in TERM KILL; do
    "$LATHE" run r.yaml -o $signal $QUICK --jobs 2 >/dev/null 2>signal.err &
    pid=$!
    for _ in $(seq 200); do # until it is at work, however slow the machine
        [ -n "$(find "$signal" -type f 2>/dev/null)" ] && break
        sleep 0.05
    done
    sleep 0.3
    kill -$signal $pid 2>/dev/null
    wait $pid 2>/dev/null
    code=$?
    [ $signal = KILL ] || [ $code -eq 130 ] || [ $code -eq 0 ] || fail "exit code $code after SIGTERM: $(cat signal.err)"
    gone $signal
    expect 0 "" "$LATHE" run r.yaml -o $signal $QUICK --jobs 2
    same_as_whole $signal
done
expect 2 "is not done" "$LATHE" run r.yaml -o only $QUICK --only 3
expect 0 "" "$LATHE" run r.yaml -o only $QUICK --only 1 --json
[ "$(states)" = ' 1 "state": "done" 13 "state": "to do" ' ] || fail "one job: $(states)"
expect 2 "there are 14" "$LATHE" run r.yaml -o only $QUICK --only 15
printf 'steps:\n  - {name: a, verb: inspect, with: {path: /nowhere}}\n  - {name: b, verb: inspect, with: {path: /nowhere}}\n' >bad.yaml
expect 4 "/nowhere" "$LATHE" run bad.yaml -o o --jobs 2
one_error_line

# refused
bad() {
    printf '%b' "$1" >bad.yaml
    expect "$2" "$3" "$LATHE" run bad.yaml -o o
    one_error_line
}
bad 'steps:\n  - name: a\n   verb: x\n' 3 "bad.yaml: line 3"
bad 'steps: []\n' 3 "no list of steps"
# the line, the key, and the nearest right name; before anything has run
bad 'matrx: {k: [1]}\nsteps:\n  - {name: a, verb: list}\n' 3 "did you mean matrix?) (bad.yaml: line 1: matrx)"
bad 'steps:\n  - name: a\n    verbs: list\n' 3 "did you mean verb?) (bad.yaml: line 3: step a: verbs)"
bad 'steps:\n  - name: a\n    verb: lisst\n' 3 "did you mean list?) (bad.yaml: line 3: step a: lisst)"
bad 'steps:\n  - name: a\n    verb: calibrate\n    with:\n      output: s\n      max-row: 3\n' 2 "bad.yaml: line 6: step a: calibrate: unknown option --max-row (did you mean --max-rows?)"
bad 'steps:\n  - name: a\n    verb: calibrate\n    with:\n      output: s\n      max-rows: many\n' 2 'bad.yaml: line 6: step a: --max-rows: "many"'
bad 'set: {model: m}\nsteps:\n  - name: a\n    verb: inspect\n    with: {path: "${modle}"}\n' 3 "did you mean model?) (bad.yaml: line 5: step a: modle)"
cat >plans.yaml <<'Y'
matrix:
  method: [whitened, weigth_svd]
  keep: [linears=0.8]
steps:
  - name: cheap
    verb: inspect
    with: {path: /nowhere}
  - name: plan
    verb: plan
    with: {model: m, method: "${method}", keep: "${keep}", output: plan.json}
Y
expect 2 'plans.yaml: line 8: step plan method=weigth_svd,keep=linears=0.8: unknown method' "$LATHE" run plans.yaml -o o2
check grep -q 'did you mean weight_svd' stderr
expect 2 'did you mean linears' "$LATHE" run plans.yaml -o o2 --set 'matrix.method=[whitened]' --set 'matrix.keep=[linear=0.8]'
[ -e o2 ] && fail "something ran before all was checked"
bad 'steps:\n  - {name: a, verb: compress, with: {model: m, preset: svd_llm, keep: 0.8, data: d}}\n' 2 "bad.yaml: line 2: step a: compress: recipe svdllm draws rows"
bad 'matrix: {}\nsteps:\n  - {name: a, verb: list}\n' 3 "no axis"
bad 'matrix:\n  k: [1, 2]\nsteps:\n  - {name: a, verb: list}\n' 3 "no step uses the axis (bad.yaml: line 2: k)"
bad 'matrix:\n  k: [1, 1]\nsteps:\n  - {name: a, verb: inspect, with: {path: "${k}"}}\n' 3 "there twice (bad.yaml: line 2: k)"
bad 'steps:\n  - {name: a, verb: plan, with: {model: m, keep: 0.5, output: p.json}}\n  - {name: b, verb: plan, with: {model: m, keep: 0.5, output: p.json}}\n' 3 "same output"
bad 'steps:\n  - {name: a, verb: lisst}\n' 3 "step a: lisst"
bad 'steps:\n  - {name: a, verb: list, model: x}\n' 3 'under "with"'
bad 'steps:\n  - {name: a, verb: list, with: {nonsense: 1}}\n' 2 "step a: list: unknown option --nonsense"
bad 'steps:\n  - {name: a, verb: inspect, with: {path: "${b}"}}\n' 3 'earlier step has the name'
bad 'steps:\n  - {name: a, verb: run}\n' 3 "cannot run recipes"
bad 'matrix: {k: 3}\nsteps:\n  - {name: a, verb: list}\n' 3 "list of values"
bad 'steps:\n  - {name: a, verb: list}\n  - {name: a, verb: list}\n' 3 "there twice"
bad 'steps:\n  - {name: a, verb: inspect, with: {path: /nowhere}}\n' 4 "step a"
expect 2 "I/N" "$LATHE" run r.yaml -o out --shard 3/2
expect 2 "--set" "$LATHE" run r.yaml -o out --set nowhere.x=1
expect 2 "did you mean model" "$LATHE" run r.yaml -o out --set set.modle=x
expect 2 "did you mean keep" "$LATHE" run r.yaml -o out --set 'matrix.kep=[0.9]'
expect 2 "did you mean small" "$LATHE" run r.yaml -o out --set steps.smal.with.dtype=bf16
expect 3 "(r.yaml: keep)" "$LATHE" run r.yaml -o out --set 'matrix.keep=0.9'
done_testing
