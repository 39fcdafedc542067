# SPDX-License-Identifier: Apache-2.0
# A hub on this machine: layout of the cache, redirects, resumed and spoilt downloads, refusals, offline use.
. "$(dirname "$0")/common.sh"

hub=$TMP/hub repo=$hub/models/org/tiny commit=0123456789abcdef0123456789abcdef01234567
mkdir -p "$repo/sub"
cp "$TINY"/* "$repo"
printf '[1]\n' >"$repo/sub/small file.json"
seq 200000 >"$repo/big.txt"
"$HUB_SERVER" "$hub" &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$TMP"' EXIT
for _ in $(seq 100); do [ -e "$hub/ports" ] && break; sleep 0.05; done
read -r port _ <"$hub/ports"
export HF_ENDPOINT=http://127.0.0.1:$port HF_HUB_CACHE=$TMP/cache/hub HF_TOKEN=secret
unset HF_HOME HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_TOKEN_PATH http_proxy https_proxy ALL_PROXY all_proxy
export no_proxy=127.0.0.1
folder=$HF_HUB_CACHE/models--org--tiny
snapshot=$folder/snapshots/$commit
sha() { sha256sum "$1" | cut -d' ' -f1; }
fresh() { rm -rf "$folder" "$HF_HUB_CACHE/.locks"; : >"$hub/log"; printf '%s\n' "$@" >"$hub/faults"; }

# not there yet: a model's name says how to get it
expect 4 '`lathe pull org/tiny` gets it' "$LATHE" inspect org/tiny
expect 4 "no such file or folder" "$LATHE" inspect ./org/tiny

# the layout that other tools read
fresh
expect 0 "$snapshot" "$LATHE" pull org/tiny
check diff -r "$repo" "$snapshot"
[ "$(cat "$folder/refs/main")" = $commit ] || fail "refs/main"
[ "$(readlink "$snapshot/big.txt")" = "../../blobs/$(sha "$repo/big.txt")" ] || fail "link: $(readlink "$snapshot/big.txt")"
[ "$(readlink "$snapshot/sub/small file.json")" = "../../../blobs/$(printf 'blob 4\0[1]\n' | sha1sum | cut -d' ' -f1)" ] || fail "small link: $(readlink "$snapshot/sub/small file.json")"
find "$folder" -name '*.incomplete' -o -name '*.lathe-*' -o -name '*.lock' | grep -q . && fail "left over: $(find "$folder" -name '*.incomplete')"
grep -q 'content .* token' "$hub/log" && fail "the token went to another host"
grep -q 'hub GET .* token' "$hub/log" || fail "the token did not go to the hub"

# a second pull asks for the list alone; a model is found by its name, in every form
: >"$hub/log"
expect 0 "" "$LATHE" pull org/tiny
[ "$(wc -l <"$hub/log")" -eq 1 ] || fail "second pull: $(cat "$hub/log")"
for name in org/tiny org/tiny@main org/tiny@$commit "$snapshot"; do
    expect 0 "" "$LATHE" generate $name --prompt "The game" --max-new 2
done
expect 0 "" "$LATHE" inspect org/tiny/model.safetensors
expect 0 "" "$LATHE" tokenize org/tiny --format text --input "$repo/sub/small file.json"
expect 4 "does not hold it" "$LATHE" inspect org/tiny/nope.gguf
expect 0 "" "$LATHE" pull org/tiny@refs/pr/1
[ "$(cat "$folder/refs/refs/pr/1")" = $commit ] || fail "refs/refs/pr/1"
expect 0 "" "$LATHE" inspect org/tiny@refs/pr/1/model.safetensors

# patterns
fresh
expect 0 "" "$LATHE" pull org/tiny --include '*.json' --include 'sub/' --exclude 'token*'
[ "$(cd "$snapshot" && find . -type l | sort | tr '\n' ' ')" = "./config.json ./sub/small file.json " ] || fail "patterns: $(find "$snapshot" -type l)"
expect 3 "no file there is asked for" "$LATHE" pull org/tiny --include '*.nope'

# a body that stops short goes on behind what has come; a server without ranges starts over
fresh "cut big.txt 1"
expect 0 "" "$LATHE" pull org/tiny --include big.txt
check cmp "$repo/big.txt" "$snapshot/big.txt"
grep -q 'content GET .*big.txt from [1-9]' "$hub/log" || fail "no range: $(cat "$hub/log")"
fresh "cut big.txt 1" "whole big.txt 1"
expect 0 "" "$LATHE" pull org/tiny --include big.txt
check cmp "$repo/big.txt" "$snapshot/big.txt"

# killed in the middle: the next pull goes on
fresh "slow big.txt 1"
"$LATHE" pull org/tiny --include big.txt --quiet 2>/dev/null &
pid=$!
for _ in $(seq 200); do [ -s "$folder/blobs/$(sha "$repo/big.txt").incomplete" ] && break; sleep 0.05; done
sleep 0.3
expect 4 "in use by another process" "$LATHE" pull org/tiny --include big.txt
kill -9 $pid
wait $pid 2>/dev/null
[ -s "$folder/blobs/$(sha "$repo/big.txt").incomplete" ] || fail "nothing was kept"
[ -e "$folder/refs/main" ] && fail "a ref of half a snapshot"
: >"$hub/log"
expect 0 "" "$LATHE" pull org/tiny --include big.txt
check cmp "$repo/big.txt" "$snapshot/big.txt"
grep -q 'content GET .*big.txt from [1-9]' "$hub/log" || fail "no range after kill: $(cat "$hub/log")"

# what was there is wrong: 416, too much, other bytes
mkdir -p "$folder/blobs"
for have in "$(seq 200001)" "some other beginning"; do
    fresh
    mkdir -p "$folder/blobs"
    printf '%s' "$have" >"$folder/blobs/$(sha "$repo/big.txt").incomplete"
    expect 0 "" "$LATHE" pull org/tiny --include big.txt
    check cmp "$repo/big.txt" "$snapshot/big.txt"
done
fresh "416 big.txt 1"
mkdir -p "$folder/blobs"
head -c 1000 "$repo/big.txt" >"$folder/blobs/$(sha "$repo/big.txt").incomplete"
expect 0 "" "$LATHE" pull org/tiny --include big.txt
check cmp "$repo/big.txt" "$snapshot/big.txt"

# wrong content never gets a name
for file in big.txt config.json; do
    fresh "bad $file 2"
    [ $file = big.txt ] || printf "bad /config.json 2\n" >"$hub/faults"
    expect 4 "another checksum" "$LATHE" pull org/tiny --include $file
    one_error_line
    [ -e "$snapshot/$file" ] && fail "$file: wrong content was linked"
done

# waiting and trying again
fresh "429 /api/ 1" "503 config.json 2"
start=$(date +%s)
expect 0 "" "$LATHE" pull org/tiny --include config.json
[ $(($(date +%s) - start)) -ge 1 ] || fail "Retry-After was not kept"

# refusals say why, and the way out
fresh "401 /api/ 1"
expect 4 "HF_TOKEN" "$LATHE" pull org/tiny
one_error_line
fresh "403gated /api/ 1"
expect 4 "accept its terms at $HF_ENDPOINT/org/tiny" "$LATHE" pull org/tiny
fresh
expect 4 "no such repository" "$LATHE" pull org/none
HF_TOKEN= expect 4 "or a private one" "$LATHE" pull org/none
expect 4 "no revision v9" "$LATHE" pull org/tiny --revision v9
expect 2 "no name of a repository" "$LATHE" pull ../tiny
expect 2 "no revision" "$LATHE" pull org/tiny --revision ../../x
fresh "evil /api/ 1"
expect 3 "file name that is none" "$LATHE" pull org/tiny
HF_ENDPOINT=http://127.0.0.1:1 expect 4 "127.0.0.1:1" "$LATHE" pull org/tiny

# a repository that moved; a full disk; the token in a file
mv "$repo" "$hub/models/moved"
mkdir -p "$hub/models/new"
mv "$hub/models/moved" "$hub/models/new/tiny"
expect 4 "" "$LATHE" pull org/tiny
repo=$hub/models/new/tiny
fresh
(ulimit -f 100; "$LATHE" pull new/tiny --include big.txt >"$TMP/stdout" 2>"$TMP/stderr")
[ $? -eq 4 ] || fail "full disk: $(cat "$TMP/stderr")"
printf 'secret\n' >"$TMP/token"
: >"$hub/log"
HF_TOKEN= HF_TOKEN_PATH=$TMP/token expect 0 "" "$LATHE" pull new/tiny --include big.txt
check cmp "$repo/big.txt" "$HF_HUB_CACHE/models--new--tiny/snapshots/$commit/big.txt"
grep -q 'hub GET .* token' "$hub/log" || fail "the token of the file did not go to the hub"

# offline
kill $server
expect 4 "" "$LATHE" pull new/tiny
export HF_HUB_OFFLINE=1
expect 0 "$commit" "$LATHE" pull new/tiny
expect 4 "HF_HUB_OFFLINE" "$LATHE" pull org/other
done_testing
