# SPDX-License-Identifier: Apache-2.0
# Training from the command line: what comes out, the same bytes after kill -9 at any moment for every preset, and what is refused.
. "$(dirname "$0")/common.sh"
valid=$REPO/share/text/wikitext2-valid-slice.txt
cd "$TMP" || exit 1
more=(--batch 2 --accumulate 2 --seq-len 64 --lr 1e-3)
small=(--steps 5 "${more[@]}")
head -c 60000 "$valid" >text.txt

# what an event file holds but for wall times and the speed of this machine
curves() { "$HELPER" events "$1" | grep -v "$(printf speed/ | od -An -tx1 | tr -d ' ')"; }

# ---- kills: started again and again, killed after a time that grows, until it ends by itself ----
same() { # name of the folder aside
    sed -i "s/$2/$1/g" "$2/result.json" "$2/model/README.md"
    diff -r "$1/model" "$2/model" && cmp "$1/metrics.jsonl" "$2/metrics.jsonl" &&
        diff <("$HELPER" strip "$1/result.json") <("$HELPER" strip "$2/result.json") &&
        diff <(curves "$1"/*.tfevents.*) <(curves "$2"/*.tfevents.*) &&
        { [ ! -e "$1/adapter" ] || diff -r "$1/adapter" "$2/adapter"; }
}
for preset in lora full freeze simple; do
    heal=(heal "$TINY" --preset "$preset" --data text.txt "${small[@]}" --save-every 1 --threads 1)
    expect 0 "" "$LATHE" "${heal[@]}" -o "whole-$preset"
    until_done "killed-$preset" 0.1 1.5 "$LATHE" "${heal[@]}" -o "killed-$preset"
    check same "whole-$preset" "killed-$preset"
done
echo "$kills kills"
for f in *.partial; do [ ! -e "$f" ] || fail "$f is left"; done
expect 0 "" "$LATHE" inspect whole-lora
# the version, five scalars a step, and validation before, and after every step of so few
records=$("$HELPER" events whole-lora/events.out.tfevents.0.lathe | wc -l)
[ "$records" -eq $((1 + 5 * 5 + 2 * 6)) ] || fail "$records events"
expect 0 "" "$LATHE" finetune "$TINY" --preset full --data text.txt "${small[@]}" --threads 2 -o threads
check cmp whole-full/metrics.jsonl threads/metrics.jsonl
check cmp whole-full/model/model.safetensors threads/model/model.safetensors

# from a config alone; the same bytes after kills
train=(train "$TINY" --data text.txt --steps 5 --batch 4 --seq-len 64 --threads 1)
expect 0 "" "$LATHE" "${train[@]}" -o whole-train
until_done killed-train 0.1 1.5 "$LATHE" "${train[@]}" -o killed-train
check same whole-train killed-train
expect 0 "" "$LATHE" generate whole-train --prompt "The" --max-new 4

# interrupted: saved, and other settings do not go on with it
long=(heal "$TINY" --preset full --data text.txt "${more[@]}" --steps 4000)
( "$LATHE" "${long[@]}" -o stopped >log 2>&1 & pid=$!; sleep 1; kill -INT $pid; wait $pid; echo $? >code )
[ "$(cat code)" = 130 ] || fail "exit code $(cat code): $(cat log)"
ls -d stopped.partial/checkpoint-* >/dev/null || fail "no checkpoint"
expect 2 'lr 0.001' "$LATHE" "${long[@]/1e-3/0.002}" -o stopped
one_error_line
expect 2 "data_hash" "$LATHE" "${long[@]/text.txt/$valid}" -o stopped
newest=$(ls -d stopped.partial/checkpoint-* | tail -1)
truncate -s 1000 "$newest/weights.safetensors"
expect 3 "remove $newest to go on from before it" "$LATHE" "${long[@]}" -o stopped
one_error_line

# ---- rows of JSON lines: prompts are no targets, the end is ----
printf '%s\n' '{"instruction": "Say hello.", "output": "Hello."}' '{"instruction": "Add.", "input": "1 2", "output": "3"}' >rows.jsonl
expect 0 "" "$LATHE" heal "$TINY" --data rows.jsonl --steps 1 --batch 1 --accumulate 1 --lr 0 --validation-share 0 -o rows
targets=$(grep -o '"targets":[0-9]*' rows/metrics.jsonl | grep -o '[0-9]*')
[ "$targets" -ge 4 ] && [ "$targets" -le 12 ] || fail "$targets targets of two short answers"
gzip -k rows.jsonl && zstd -q rows.jsonl
for f in rows.jsonl.gz rows.jsonl.zst; do
    expect 0 "" "$LATHE" heal "$TINY" --data $f --steps 1 --batch 1 --accumulate 1 --lr 0 --validation-share 0 -o z
    check cmp rows/metrics.jsonl z/metrics.jsonl
    rm -rf z
done
printf '%s\n' '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there."}]}' >talk.jsonl
printf '%s' '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}' >t.jinja
expect 0 "" "$LATHE" heal "$TINY" --data talk.jsonl --template t.jinja --steps 1 --batch 1 --accumulate 1 --lr 0 --validation-share 0 -o talk
printf '%s\n' '{"messages": [{"role": "user", "content": "Hi"}]}' >silent.jsonl
expect 3 "without an assistant's answer" "$LATHE" heal "$TINY" --data silent.jsonl --template t.jinja --steps 1 -o x
one_error_line

# ---- budgets ----
expect 0 "" "$LATHE" heal "$TINY" --preset freeze --data text.txt --train-tokens 1000 --batch 2 --accumulate 1 --seq-len 64 -o tokens
seen=$(grep -o '"targets":[0-9]*' tokens/metrics.jsonl | grep -o '[0-9]*' | awk '{ s += $1 } END { print s }')
[ "$seen" -ge 1000 ] && [ "$seen" -lt 1126 ] || fail "$seen targets for a budget of 1000"
expect 0 "" "$LATHE" heal "$TINY" --preset freeze --data text.txt --time 2s --batch 2 --accumulate 1 --seq-len 64 -o time
expect 2 "two budgets" "$LATHE" heal "$TINY" --data text.txt --steps 2 --epochs 1 -o x
expect 2 "not a time" "$LATHE" heal "$TINY" --data text.txt --time soon -o x

# ---- what is refused ----
refused() { # CODE TEXT OPTIONS...: one line, and no output
    rm -rf x x.partial
    expect "$1" "$2" "$LATHE" heal "${@:3}" -o x
    one_error_line
    [ ! -e x ] || fail "there is an output: $2"
    [ ! -e x.partial/unfinished.json ] || [ -e x.partial/data.ids ] || fail "there is nothing but a folder in the way: $2"
}
printf '%s\n' '{"txt": "a"}' >wrong.jsonl
refused 3 'line 1: row has none of "text", "messages", "instruction" with "output" but "txt" (wrong.jsonl)' "$TINY" --data wrong.jsonl --steps 1
printf '%s\n' '{"text": "fine"}' '{"instruction": "Say"}' >wrong2.jsonl
refused 3 'line 2: an instruction without "output"' "$TINY" --data wrong2.jsonl --steps 1
printf 'caf\xe9' >latin1.txt
refused 3 "latin1.txt: text is not UTF-8" "$TINY" --data latin1.txt --steps 1
refused 2 "positions" "$TINY" --data text.txt --seq-len 100000 --steps 1
head -1 rows.jsonl >one.jsonl
refused 3 "--validation-share 0" "$TINY" --data one.jsonl --steps 1
: >empty.txt
refused 3 "no text in it: 0 empty rows (empty.txt)" "$TINY" --data empty.txt --steps 1
refused 2 "nothing trains" "$TINY" --preset full --freeze . --data text.txt "${small[@]}"
refused 2 "--lora-rank goes with --preset lora" "$TINY" --preset full --lora-rank 4 --data text.txt "${small[@]}"
refused 2 "--lora-alpha is of fresh adapters" "$TINY" --adapter whole-lora/adapter --lora-alpha 4 --data text.txt "${small[@]}"
refused 6 "--no-merge writes the adapter alone: adapter parts the head" "$TINY" --lora-targets lm_head --data text.txt "${small[@]}"
[ ! -e x.partial/metrics.jsonl ] || fail "it trained what cannot be merged"
refused 2 "no_proj" "$TINY" --lora-targets no_proj --data text.txt "${small[@]}"
printf 'PAR1xxxx' >x.parquet
refused 6 "Parquet" "$TINY" --data x.parquet --steps 1
# an adapter of another model: the same names, other shapes
expect 0 "" "$LATHE" compress "$TINY" --data text.txt --seq-len 64 --max-rows 8 --keep linears=0.7 --no-compare -o narrow
refused 3 "adapter does not fit the model" narrow --adapter whole-lora/adapter --data text.txt "${small[@]}"
# a weight that is not a number, and a rate that is none
cp -r "$TINY" nan && chmod -R u+w nan
check "$HELPER" poke nan/model.safetensors model.layers.2.mlp.down_proj.weight 77 nan
refused 3 "loss of step 1 is not finite" nan --preset full --data text.txt "${small[@]}" --validation-share 0
refused 3 "last good checkpoint is x.partial/checkpoint-" "$TINY" --preset full --data text.txt --steps 40 --batch 2 --accumulate 1 \
    --seq-len 64 --lr 10 --clip 0 --eps 0 --schedule constant --warmup-steps 0 --weight-decay 100 --save-every 1 --validation-share 0
# a full disk: the checkpoint before stays, and the call goes on when there is room
(
    ulimit -f 4500 # KiB a file: weights fit, the optimiser's moments do not
    "$LATHE" heal "$TINY" --preset full --data text.txt "${small[@]}" --save-every 1 -o full >/dev/null 2>full.err
    echo $? >code
)
[ "$(cat code)" = 4 ] || fail "exit code $(cat code) with a full disk: $(cat full.err)"
expect 0 "" "$LATHE" heal "$TINY" --preset full --data text.txt "${small[@]}" --save-every 1 -o full
check cmp whole-full/model/model.safetensors full/model/model.safetensors
done_testing
