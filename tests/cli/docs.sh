# SPDX-License-Identifier: Apache-2.0
# docs/commands.md is what the rows say.
. "$(dirname "$0")/common.sh"
expect 0 "" "$LATHE" help --markdown
diff -u "$REPO/docs/commands.md" "$TMP/stdout" || fail "docs/commands.md is stale: lathe help --markdown > docs/commands.md"
done_testing
