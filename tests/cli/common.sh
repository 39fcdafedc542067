# SPDX-License-Identifier: Apache-2.0
# tests/cli/common.sh - sourced by every script: a folder of its own, and checks that say what was expected.
set -u
: "${LATHE:?}" "${REPO:?}" "${SHARED:?}" "${HELPER:?}"
export LC_ALL=C.UTF-8 XDG_CACHE_HOME
TMP=$(mktemp -d "${TMPDIR:-/tmp}/lathe-cli-XXXXXX")
XDG_CACHE_HOME=$TMP/cache
trap 'rm -rf "$TMP"' EXIT
TINY=$REPO/share/models/tiny-llama
failures=0

fail() {
    echo "FAILED: $*" >&2
    failures=$((failures + 1))
}

# expect CODE TEXT COMMAND...: exit code, and TEXT (fixed string, may be empty) somewhere in what was written
expect() {
    local code=$1 text=$2 got
    shift 2
    "$@" >"$TMP/stdout" 2>"$TMP/stderr"
    got=$?
    if [ "$got" -ne "$code" ]; then
        fail "exit code $got, expected $code: $*"
        head -c 1000 "$TMP/stderr" >&2
    elif [ -n "$text" ] && ! grep -qF -- "$text" "$TMP/stdout" "$TMP/stderr"; then
        fail "no \"$text\" in the output of: $*"
        head -c 2000 "$TMP/stdout" >&2
        head -c 1000 "$TMP/stderr" >&2
    fi
}

# an error is one line that begins with "lathe: error: "
one_error_line() {
    [ "$(grep -c '^lathe: error: ' "$TMP/stderr")" -eq 1 ] || fail "not one error line: $(head -c 400 "$TMP/stderr")"
}

check() {
    "$@" || fail "$*"
}

need() {
    [ -e "$1" ] && return
    echo "skipped: $1 is not there"
    exit 77
}

done_testing() {
    [ "$failures" -eq 0 ] || { echo "$failures failures" >&2; exit 1; }
    exit 0
}

# until_done OUTPUT DELAY GROWTH COMMAND...: starts it again and again, killed after DELAY, GROWTH DELAY ... seconds, until it ends by itself
kills=0
until_done() {
    local output=$1 delay=$2 growth=$3 pid
    shift 3
    for ((i = 0; i < 200; i++)); do
        "$@" >log 2>&1 &
        pid=$!
        sleep "$delay"
        if kill -9 "$pid" 2>/dev/null; then
            wait "$pid" 2>/dev/null
            [ -e "$output" ] && [ ! -e "$output.partial" ] && return
            kills=$((kills + 1))
        else
            wait "$pid" || { fail "$(cat log)"; return; }
            return
        fi
        delay=$(awk "BEGIN { print $delay * $growth }")
    done
    fail "never done: $*"
}
