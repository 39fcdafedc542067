#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/tokenizer/unicode_tables.h: what the Hugging Face `tokenizers` library knows about code points.

The library is the reference for ids, and its parts stand on different Unicode versions (regular expressions:
Oniguruma; Digits and Lowercase: the Rust standard library; blanks and words around added tokens: the regex crate;
normal forms: Unicode 9). So the tables are not taken from the Unicode database but asked from the library, code point by
code point. One set is not: NEW, the code points that Unicode 9 had not assigned, comes from perl; the library must leave
all of them as they are, which is checked.

    python3 tools/unicode_tables.py | clang-format > src/tokenizer/unicode_tables.h

Needs: pip install tokenizers; perl >= 5.26.
"""
import subprocess

import tokenizers
from tokenizers import Regex, normalizers as norm, pre_tokenizers as pre

CATEGORIES = ("Cn Cc Cf Co Cs Ll Lm Lo Lt Lu Mc Me Mn Nd Nl No Pc Pd Pe Pf Pi Po Ps Sc Sk Sm So Zl Zp Zs").split()
# bit 5 upwards
FLAGS = ("WHITE", "NUMERIC", "RWORD", "OWORD", "HAN", "PUNCT", "NEW", "MARK", "BERT_MARK", "BERT_REMOVED")
BLOCK = 1 << 14
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def probe(splitter, frame, inside):
    """Code points c for which one piece of the text frame(c) covers the characters `inside` and no more."""
    found = set()
    width = len(frame("x"))
    for first in range(0, len(POINTS), BLOCK):
        points = POINTS[first : first + BLOCK]
        pieces = splitter.pre_tokenize_str("".join(frame(chr(c)) for c in points))
        for _, (start, end) in pieces:
            if start % width == inside[0] and end - start == inside[1] - inside[0]:
                found.add(points[start // width])
    return found


def matched_by(pattern):
    only = pre.Split(Regex(pattern), "removed", invert=True)
    return probe(only, lambda c: c, (0, 1))


def vanishing(normalizer):
    return {c for c in POINTS if normalizer.normalize_str("a" + chr(c)) == "a"}


def bert(**parts):
    off = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return norm.BertNormalizer(**{**off, **parts})


def unassigned_in_unicode_9():
    test = "for my $c (0..0x10ffff) { print qq($c\\n) if ($c < 0xd800 || $c > 0xdfff) && chr($c) !~ /\\p{Present_In: 9.0}/ }"
    out = subprocess.run(["perl", "-e", test], capture_output=True, check=True, text=True).stdout
    points = {int(line) for line in out.split()}
    for form in (norm.NFC(), norm.NFD(), norm.NFKC(), norm.NFKD()):
        assert all(form.normalize_str("a" + chr(c) + "\u0301") == "a" + chr(c) + "\u0301" for c in points)
    return points


def lowercase_runs():
    """[first, last, step, distance]: first, first + step, ... last become themselves plus distance."""
    lower, runs = norm.Lowercase(), []
    for c in POINTS:
        to = lower.normalize_str(chr(c))
        if to == chr(c) or c == 0x130:  # U+0130 becomes two code points: the one exception
            continue
        distance = ord(to) - c
        if runs and runs[-1][3] == distance:
            first, last, step, _ = runs[-1]
            if c - last == step or (first == last and c - last == 2):
                runs[-1] = [first, c, c - last, distance]
                continue
        runs.append([c, c, 1, distance])
    return runs


def runs_of(props):
    last, out = None, []
    for c in range(0x110000):
        p = props.get(c, 0)
        if p != last:
            out.append((c, p))
            last = p
    return out


def print_rows(rows, per_line):
    for i in range(0, len(rows), per_line):
        print("    " + " ".join(rows[i : i + per_line]))
    print("};\n")


def main():
    props = {c: 0 for c in POINTS}
    for c in range(0xD800, 0xE000):
        props[c] = CATEGORIES.index("Cs")
    for number, name in enumerate(CATEGORIES):
        if name in ("Cn", "Cs"):
            continue
        for c in matched_by(r"\p{%s}" % name):
            assert props[c] == 0, (hex(c), name)
            props[c] = number
    white = matched_by(r"\s")
    split = pre.WhitespaceSplit()
    assert white == set(POINTS) - probe(split, lambda c: "a" + c + "\n", (0, 2)), "two kinds of white space"
    flags = {
        "WHITE": white,
        "NUMERIC": probe(pre.Digits(individual_digits=True), lambda c: "a" + c + "a", (1, 2)),
        "RWORD": probe(pre.Whitespace(), lambda c: "a" + c + "\n", (0, 2)),
        "OWORD": matched_by(r"\w"),
        "HAN": matched_by(r"\p{Han}"),
        "PUNCT": probe(pre.Punctuation("isolated"), lambda c: "a" + c + "a", (1, 2)),
        "NEW": unassigned_in_unicode_9(),
        "MARK": vanishing(norm.StripAccents()),
        "BERT_MARK": vanishing(bert(strip_accents=True)),
        "BERT_REMOVED": vanishing(bert(clean_text=True)),
    }
    for bit, name in enumerate(FLAGS):
        for c in flags[name]:
            props[c] |= 32 << bit
    runs = runs_of(props)
    lower = lowercase_runs()

    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Generated by tools/unicode_tables.py from tokenizers %s; do not edit. */" % tokenizers.__version__)
    print("#ifndef LT_TOKENIZER_UNICODE_TABLES_H\n#define LT_TOKENIZER_UNICODE_TABLES_H\n\n#include <stdint.h>\n")
    print("/* First code point of each run of equal properties. */")
    print("static const uint32_t run_first[%d] = {" % len(runs))
    print_rows(["%#x," % c for c, _ in runs], 14)
    print("/* Its properties: flags << 5 | general category (index in category_name of unicode.c). */")
    print("static const uint16_t run_props[%d] = {" % len(runs))
    print_rows(["%#x," % p for _, p in runs], 16)
    print("/* first, last, step, distance: what lowercase adds to first, first + step, ... last. */")
    print("static const int32_t lower_runs[%d][4] = {" % len(lower))
    print_rows(["{ %#x, %#x, %d, %d }," % tuple(r) for r in lower], 4)
    print("#endif")


main()
