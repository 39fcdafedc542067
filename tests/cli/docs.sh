# SPDX-License-Identifier: Apache-2.0
# docs/commands.md is what the rows say, and links between pages lead somewhere.
. "$(dirname "$0")/common.sh"
expect 0 "" "$LATHE" help --markdown
diff -u "$REPO/docs/commands.md" "$TMP/stdout" || fail "docs/commands.md is stale: lathe help --markdown > docs/commands.md"

links=0
while IFS=: read -r page link; do
    link=${link#](}
    link=${link%%[#)]*}
    case $link in '' | *://* | mailto:*) continue ;; esac
    links=$((links + 1))
    [ -e "$(dirname "$page")/$link" ] || fail "${page#"$REPO"/}: a link to $link, which is not there"
done < <(grep -roH --include='*.md' '\](\([^) ]*\))' "$REPO/docs" "$REPO/README.md" "$REPO/CONTRIBUTING.md" "$REPO/CHANGELOG.md")
[ "$links" -gt 0 ] || fail "no links found"

# docs/acceptance.md names tests that are there: a file, then what it holds
named=0
while read -r name; do
    name=${name//\`/}
    case $name in
    test_*.c | *.sh)
        file=$(find "$REPO/tests" -name "$name")
        [ -n "$file" ] || fail "docs/acceptance.md: no $name in tests"
        ;;
    *)
        grep -qF -- "$name" "$file" || fail "docs/acceptance.md: no $name in $file"
        named=$((named + 1))
        ;;
    esac
done < <(sed -n 's/^|.*|\([^|]*\)|$/\1/p' "$REPO/docs/acceptance.md" | grep -o '`[^`]*`' | grep -v '^`fuzz/`$')
[ "$named" -gt 100 ] || fail "docs/acceptance.md names $named tests"
done_testing
