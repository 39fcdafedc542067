#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of fuzz/corpus/safetensors and fuzz/corpus/gguf: small good files and one bad file per rule.

Usage: make_fuzz_corpus.py fuzz/corpus
"""
import json
import struct
import sys
from pathlib import Path


def st(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def t(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


SAFETENSORS = {
    "good-two": st({"__metadata__": {"format": "pt"}, "a": t("F32", [2, 2], 0, 16), "b": t("BF16", [3], 16, 22)}, bytes(range(22))),
    "good-empty": st({}),
    "good-no-elements": st({"a": t("F16", [0, 4], 0, 0), "b": t("U8", [1], 0, 1), "c": t("I64", [0], 1, 1)}, b"x"),
    "good-misaligned": st({"a": t("U8", [1], 0, 1), "b": t("F64", [1], 1, 9), "c": t("U16", [1], 9, 11)}, bytes(11)),
    "good-all-dtypes": st(
        {n: t(n, [1], 8 * i, 8 * i + 8) if s == 8 else t(n, [8 // s], 8 * i, 8 * i + 8)
         for i, (n, s) in enumerate([("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("I32", 4), ("U32", 4), ("U16", 2), ("I8", 1), ("U8", 1), ("BOOL", 1)])},
        bytes(88)),
    "good-scalar-rank6": st({"s": t("F32", [], 0, 4), "r": t("U8", [1, 1, 1, 1, 1, 2], 4, 6)}, bytes(6)),
    "bad-overlap": st({"a": t("U8", [2], 0, 2), "b": t("U8", [2], 1, 3)}, bytes(3)),
    "bad-hole": st({"a": t("U8", [1], 0, 1), "b": t("U8", [1], 2, 3)}, bytes(3)),
    "bad-tail": st({"a": t("U8", [1], 0, 1)}, bytes(2)),
    "bad-dtype": st({"a": t("F8_E5M2", [1], 0, 1)}, bytes(1)),
    "bad-rank": st({"a": t("U8", [1] * 7, 0, 1)}, bytes(1)),
    "bad-product": st({"a": t("F32", [1 << 32, 1 << 32], 0, 0)}),
    "bad-offsets": st({"a": t("F32", [1], 8, 4)}, bytes(8)),
    "bad-huge-offsets": st({"a": t("U8", [1], (1 << 63) - 1, (1 << 63) - 1)}),
    "bad-duplicate": st(b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "bad-metadata": st({"__metadata__": {"a": 1}}),
    "bad-length": st({}, length=(1 << 64) - 1),
    "bad-cut": st({"a": t("F32", [4], 0, 16)}, bytes(16))[:-3],
    "bad-deep": st(b"[" * 3000),
    "bad-json-name": st(b'{"a\\u0000":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
    "bad-wide-integer": st(b'{"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,0]}}'),
}

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}


def text(s):
    raw = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, v):
    return text(v) if kind == STRING else struct.pack(PACK[kind], v)


def kv(key, kind, v):
    return text(key) + struct.pack("<I", kind) + scalar(kind, v)


def array(key, kind, values, n=None):
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(values) if n is None else n) + b"".join(scalar(kind, v) for v in values)


def tensor(name, sizes, kind, offset):
    return text(name) + struct.pack("<I", len(sizes)) + b"".join(struct.pack("<Q", s) for s in sizes) + struct.pack("<IQ", kind, offset)


def gguf(kvs=(), tensors=(), data=b"", version=3, alignment=32, n_kv=None, n_tensors=None):
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(kvs) if n_kv is None else n_kv)
    head += b"".join(kvs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment if data else 0) + data


EVERY = [kv(f"k.{k}", k, 1) for k in PACK] + [array(f"a.{k}", k, [0, 1, 1]) for k in PACK]
BLOCKS = [("q8_0", 8, 32, 34), ("q4_0", 2, 32, 18), ("q4_1", 3, 32, 20), ("q5_0", 6, 32, 22), ("q5_1", 7, 32, 24),
          ("q4_k", 12, 256, 144), ("q5_k", 13, 256, 176), ("q6_k", 14, 256, 210)]

GGUF = {
    "good-empty": gguf(),
    "good-v2": gguf([kv("general.architecture", STRING, "llama")], version=2),
    "good-values": gguf(EVERY),
    "good-strings": gguf([array("tokens", STRING, ["a", "", "\u0120b", b"\xff\x00"]), array("none", STRING, [])]),
    "good-blocks": gguf([], [tensor(n, [b, 1], k, 256 * i) for i, (n, k, b, s) in enumerate(BLOCKS)], bytes(range(256)) * len(BLOCKS)),
    "good-plain": gguf([], [tensor("f", [3, 2], 0, 0), tensor("h", [4], 1, 32), tensor("b", [2, 1, 1, 1], 30, 64), tensor("e", [0], 0, 96), tensor("s", [], 26, 96)], bytes(100)),
    "good-alignment": gguf([kv("general.alignment", U32, 64)], [tensor("t", [1], 24, 64)], bytes(65), alignment=64),
    "bad-v1": gguf(version=1),
    "bad-big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "bad-n-tensors": gguf(n_tensors=1 << 60),
    "bad-n-kv": gguf(n_kv=(1 << 64) - 1),
    "bad-array-length": gguf([array("a", U64, [1], n=1 << 61)]),
    "bad-string-length": gguf([text("s") + struct.pack("<IQ", STRING, (1 << 64) - 1)]),
    "bad-nested": gguf([text("n") + struct.pack("<IIQ", ARRAY, ARRAY, 1) + bytes(16)]),
    "bad-kind": gguf([text("n") + struct.pack("<I", 13) + bytes(16)]),
    "bad-bool": gguf([kv("b", BOOL, 7)]),
    "bad-twice": gguf([kv("b", U8, 7), kv("b", U8, 7)]),
    "bad-name": gguf([kv(b"\xed\xa0\x80", U8, 7)]),
    "bad-alignment": gguf([kv("general.alignment", U32, 48)], [tensor("t", [1], 24, 0)], bytes(64)),
    "bad-rank": gguf([], [tensor("t", [1] * 5, 0, 0)], bytes(32)),
    "bad-type": gguf([], [tensor("t", [256], 10, 0)], bytes(256)),
    "bad-offset": gguf([], [tensor("t", [4], 0, 4)], bytes(64)),
    "bad-overlap": gguf([], [tensor("t", [16], 0, 0), tensor("u", [1], 0, 32)], bytes(64)),
    "bad-product": gguf([], [tensor("t", [1 << 62, 1 << 62], 0, 0)], bytes(64)),
    "bad-block": gguf([], [tensor("t", [31], 8, 0)], bytes(64)),
    "bad-tensor-twice": gguf([], [tensor("t", [1], 0, 0), tensor("t", [1], 0, 32)], bytes(64)),
    "bad-cut": gguf([], [tensor("t", [64], 0, 0)], bytes(255)),
}


def main():
    root = Path(sys.argv[1])
    for name, files in (("safetensors", SAFETENSORS), ("gguf", GGUF)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for stem, raw in files.items():
            (root / name / stem).write_bytes(raw)


if __name__ == "__main__":
    main()
