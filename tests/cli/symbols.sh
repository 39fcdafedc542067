# SPDX-License-Identifier: Apache-2.0
# The library shows the functions of its public header and nothing else.
. "$(dirname "$0")/common.sh"
sed -n 's/^LT_API .*[ *]\(lt_[a-z_]*\)(.*/\1/p' "$REPO/include/lathe/lathe.h" | sort >"$TMP/want"
nm -D --defined-only "$LIBLATHE" | awk '{ print $3 }' | sed 's/@.*//' | grep -v '^__\(asan\|ubsan\|odr\)\|^_\(init\|fini\)$' | sort >"$TMP/got"
diff -u "$TMP/want" "$TMP/got" || fail "exported symbols"
done_testing
