# SPDX-License-Identifier: Apache-2.0
# The installed library serves a program that knows lathe/lathe.h alone; every public header stands alone, in C and in C++.
. "$(dirname "$0")/common.sh"
command -v pkg-config >/dev/null || { echo "skipped: no pkg-config"; exit 77; }
cmake --install "$BUILD" --prefix "$TMP/usr" >"$TMP/log" 2>&1 || { cat "$TMP/log"; fail "install"; done_testing; }
PKG_CONFIG_PATH=$(dirname "$(find "$TMP/usr" -name lathe.pc)")
export PKG_CONFIG_PATH
cflags=$(pkg-config --cflags lathe) libs=$(pkg-config --libs lathe)
libdir=$(pkg-config --variable=libdir lathe)
$CC -std=c17 -Wall -Wextra -Werror $EXTRA_CFLAGS $cflags "$REPO/examples/call.c" -o "$TMP/call" $libs -Wl,-rpath,"$libdir" || fail "the example does not build"
expect 0 "parameters: 803968" "$TMP/call" "$TINY"
grep -q "unknown option --frobnicate" "$TMP/stdout" || fail "the example shows no error message"
expect 4 "nowhere" "$TMP/call" "$TMP/nowhere"
printf '#include <lathe/lathe.h>\nint main(void) { return lt_version()[0] == 0; }\n' >"$TMP/alone.c"
$CC -std=c99 -pedantic -Wall -Wextra -Werror $EXTRA_CFLAGS $cflags "$TMP/alone.c" -o "$TMP/alone" $libs -Wl,-rpath,"$libdir" && "$TMP/alone" || fail "the header alone"
if command -v c++ >/dev/null; then c++ -x c++ -fsyntax-only -Wall -Wextra -Werror $cflags "$TMP/alone.c" || fail "the header in C++"; fi
expect 0 "lathe" "$TMP/usr/bin/lathe" --version
done_testing
