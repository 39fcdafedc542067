# SPDX-License-Identifier: Apache-2.0
# Reports: every format from the results of a recipe, what they must say, and what is refused.
. "$REPO/tests/cli/common.sh"
cd "$TMP" || exit 1
sed -e "s|share/|$REPO/share/|" "$REPO/share/recipes/methods.yaml" >r.yaml
expect 0 "" "$LATHE" run r.yaml -o study --set set.rows=4 --set set.windows=2

# Markdown: one table of quality, its conditions over it, the parent once
expect 0 "report.md" "$LATHE" report study -o report.md
check grep -q '^## block, 2 windows of 128, 254 tokens, wikitext2-test-slice.txt' report.md
[ "$(grep -c '^| tiny-llama | *| *| .*±' report.md)" -eq 1 ] || fail "the parent is not there once: $(cat report.md)"
[ "$(grep -c '^| small .*±' report.md)" -eq 4 ] || fail "not four models with a perplexity"
# under the recipe's title, in its order; what a plan says is said by its model
[ "$(head -1 report.md)" = "# methods against budgets" ] || fail "title: $(head -1 report.md)"
[ "$(grep -o '^| small | [a-z\\_]* | 0.[68] | [0-9.]* ±' report.md | cut -d' ' -f4-6 | tr '\n' ';')" = 'whitened | 0.8;whitened | 0.6;weight\_svd | 0.8;weight\_svd | 0.6;' ] || fail "order: $(cat report.md)"
grep -q '^| plan | w' report.md && fail "a plan beside its model: $(cat report.md)"

# what is inside: ranks of every plan by role, spectra by role
[ "$(sed -n '/^## ranks, least/,/^## /p' report.md | grep -c '^| plan, method=')" -eq 4 ] || fail "not the ranks of four plans"
[ "$(sed -n '/^## spectra of outputs, spectra.safetensors/,$p' report.md | grep -c '^| .* | 4 | \(128\|64\) | [0-9–]* | [0-9–]* |$')" -eq 7 ] || fail "not seven roles: $(cat report.md)"
expect 0 "rank of 99" "$LATHE" report study/spectra.safetensors -o - --format md
expect 3 "calibrate --keep spectra" "$LATHE" report study/tiny.stats.safetensors -o - --format md
one_error_line

# tidy CSV: a row for each value, with all that a perplexity needs
expect 0 "" "$LATHE" report study -o report.csv
[ "$(head -1 report.csv)" = "source,model,method,keep,metric,protocol,data,window,windows,tokens,value,uncertainty" ] || fail "heading: $(head -1 report.csv)"
[ "$(grep -c ',ppl,block,wikitext2-test-slice.txt#........,128,2,254,[0-9.]*,[0-9.]*$' report.csv)" -eq 5 ] || fail "not five perplexities"
[ "$(awk -F, 'NF != 12' report.csv)" = "" ] || fail "rows of another length"

# what it wrote it reads, as published values; the same inputs give the same bytes
expect 0 "" "$LATHE" report study/stats.step.json --published report.csv -o again.csv
check cmp report.csv again.csv
expect 2 "--overwrite" "$LATHE" report study -o report.csv
expect 0 "" "$LATHE" report study -o report.csv --overwrite
check cmp report.csv again.csv

# results of lm-eval-harness, axes called like columns, quotes
cat >lm.json <<'J'
{"results": {"hellaswag": {"alias": "hellaswag", "acc,none": 0.41, "acc_stderr,none": 0.005, "em,strict": 0.5, "em_stderr,strict": "N/A"}},
 "n-shot": {"hellaswag": 5}, "model_name": "a, \"b\" <c>"}
J
printf 'model,metric,value,protocol,window,axis_model\nx,ppl,7.5,block,2048,0.8\n' >published.csv
expect 0 '"a, ""b"" <c>",,acc,"lm-eval, 5-shot",hellaswag,,,,0.41,0.005' "$LATHE" report lm.json --published published.csv -o - --format csv
expect 0 'published,x,0.8,ppl,block,,2048,,,7.5,' "$LATHE" report lm.json --published published.csv -o - --format csv
expect 0 'source,model,axis_model,metric' "$LATHE" report lm.json --published published.csv -o - --format csv
expect 0 'a, "b" \<c\>' "$LATHE" report lm.json -o - --format md
expect 0 'a, {\char34}b{\char34} \textless{}c\textgreater{}' "$LATHE" report lm.json -o - --format latex
cat >tex.json <<'J'
{"results": {"t": {"acc,none": 0.5}}, "model_name": "[x]*--y'' a_b%c&d#e~f^g{h}$i?`"}
J
expect 0 "{[}x]{*}-{}-y'{}' a\\_b\\%c\\&d\\#e\\textasciitilde{}f\\textasciicircum{}g\\{h\\}\\\$i?{}\` &" "$LATHE" report tex.json -o - --format latex
if command -v pdflatex >/dev/null; then
    expect 0 "" "$LATHE" report study tex.json lm.json -o tables.tex
    printf '\\documentclass{article}\\begin{document}\\input{tables.tex}\\end{document}\n' >all.tex
    expect 0 "Output written" pdflatex -interaction=nonstopmode -halt-on-error all.tex
fi

# the page: one file that links to nothing, everything escaped, the same bytes again; without gnuplot it says so
expect 6 "gnuplot" env PATH="$TMP" "$LATHE" report study -o none.html
[ -e none.html ] && fail "a page without its drawings"
if command -v gnuplot >/dev/null; then
    sed 's/<c>/<script>alert(1)<\/script>/' lm.json >evil.json
    expect 0 "" "$LATHE" report study evil.json -o page.html
    expect 0 "" "$LATHE" report study evil.json -o all/
    check cmp page.html all/report.html
    check test -s all/report.md -a -s all/report.csv -a -s all/report.tex
    [ "$(ls all | wc -l)" -eq 4 ] || fail "left behind: $(ls all)"
    grep -q '<script' page.html && fail "not escaped"
    # quality against size and against what was predicted; ranks of four plans; spectra of seven roles
    [ "$(grep -c '^<svg' page.html)" -eq 13 ] || fail "not thirteen drawings: $(grep -c '^<svg' page.html)"
    for title in 'perplexity against size' 'perplexity against predicted relative error' 'rank against layer' 'share of the largest against eigenvalue'; do
        check grep -q "$title" page.html
    done
    check grep -q '<h1>methods against budgets</h1>' page.html
    [ "$(grep -c '<h2>quality</h2>' page.html)" -eq 1 ] || fail "not one heading for quality"
    grep -q '<title>Gnuplot' page.html && fail "drawings without a name of their own"
    # far apart: logarithmic; what is not finite is told; ranks alike in all layers are not drawn
    cat >far.json <<'J'
{"format": "lathe-result/1", "protocol": {"name": "block", "window": 128}, "models": [
 {"model": "a", "bytes": 1, "ppl": 20}, {"model": "b", "bytes": 2, "ppl": 3e7}, {"model": "c", "bytes": 3, "ppl": "inf"}]}
J
    expect 0 "" "$LATHE" report far.json -o far.html
    check grep -q 'Not drawn: 1 that is not finite' far.html
    check grep -q '>10<' far.html
    expect 0 "" "$LATHE" run r.yaml -o flat --set set.rows=4 --set set.windows=2 --set 'matrix.keep=[0.8]' --set steps.plan.with.allocate=uniform
    expect 0 "" "$LATHE" report flat -o flat.html
    expect 0 "measured,tiny-llama,,,ppl,block," "$LATHE" report flat -o - --format csv # of no cell, though all have one keep
    grep -q 'rank against layer' flat.html && fail "ranks that are alike are drawn"
    [ -z "$(grep -oE "id=['\"][^'\"]*" page.html | sort | uniq -d)" ] || fail "names of parts are there twice"
fi
expect 2 "needs a file" "$LATHE" report study -o - --format html

# refused, by name
bad() {
    printf '%b' "$1" >bad.json
    expect 3 "$2" "$LATHE" report bad.json -o - --format md
    one_error_line
    check grep -q 'bad\.json' stderr
}
bad '{"a": 1}' "no result"
bad '[]' "no result"
bad 'no json' "not valid JSON"
bad '{"format": "lathe-step/1", "done": true}' "step or axes"
bad '{"format": "lathe-result/1", "models": [{"model": "m", "ppl": 3.5}]}' "a perplexity without its protocol"
bad '{"format": "lathe-result/1", "models": [{"model": "m", "params": "many"}]}' "no number"
bad '{"format": "lathe-result/1", "models": [{"ppl": 3.5}]}' "has no name"
bad '{"format": "lathe-result/1", "models": [{"model": "m", "ppl": 3.5}], "protocol": {"name": "block", "window": -1}}' "no count"
mkdir empty
expect 3 "empty" "$LATHE" report empty -o - --format md
expect 4 "nowhere" "$LATHE" report nowhere -o - --format md
printf '{"loss": 3}\n' >bad.jsonl
expect 3 "bad.jsonl: line 1" "$LATHE" report bad.jsonl -o - --format md
expect 2 "--format" "$LATHE" report lm.json -o report.xyz
badcsv() {
    printf '%b' "$1" >bad.csv
    expect 3 "$2" "$LATHE" report lm.json --published bad.csv -o - --format md
    check grep -q 'bad\.csv' stderr
}
badcsv 'model,metric,value\nx,y\n' "line 2"
badcsv 'model,metric,value\nx,"y,1\n' "not closed"
badcsv 'model,metric,value\nx,,1\n' "no model, metric or value"
badcsv 'model,metric,value\nx,params,much\n' "no number"
badcsv 'model,metric,value\nx,ppl,3\n' "without its protocol"
badcsv 'model,metric,value\n' "no rows"
done_testing
