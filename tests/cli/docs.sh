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
done_testing
