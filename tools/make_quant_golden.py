#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/golden/quant/: blocks of each GGUF format and what gguf-py makes of them.

    <type>.blocks   random blocks, finite scales, and blocks of extreme bytes
    <type>.f32      gguf.quants.dequantize of them
    quantize.f32    rows to quantise: normals of several scales, zeros, ties, one outlier, tiny
    q8_0.quantized, q4_0.quantized   gguf.quants.quantize of quantize.f32

Usage: make_quant_golden.py OUTPUT_FOLDER     (made with gguf 0.19.0, numpy 2.x)
"""
import sys
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize, quantize

# byte offsets of the f16 fields of a block
F16_FIELDS = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}


def blocks_of(qtype, rng):
    block, size = GGML_QUANT_SIZES[qtype]
    n = 16 if block == 32 else 6
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    raw[0] = 0
    raw[1] = 255
    for at in F16_FIELDS[qtype]:
        scale = (rng.standard_normal(n) * 10.0 ** rng.integers(-7, 3, n)).astype(np.float16)  # subnormals too
        raw[:, at : at + 2] = scale.view(np.uint8).reshape(n, 2)
    return raw


def values(rng):
    rows = [rng.standard_normal(32) * s for s in (1.0, 1e-3, 1e3, 1e-6, 0.02, 60000.0)]
    rows += [np.zeros(32), -np.zeros(32), np.full(32, -1.5), np.arange(-16, 16) + 0.5, np.arange(32) * (127 / 31)]
    rows += [np.where(np.arange(32) == 7, -100.0, 0.01), np.full(32, 1e-36), np.tile([4.0, -4.0], 16), np.tile([-4.0, 4.0], 16)]
    rows += [(np.arange(32) - 16) / 2.0, rng.integers(-127, 128, 32) / 2.0]
    return np.stack(rows).astype(np.float32)


def main():
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    for qtype in F16_FIELDS:
        raw = blocks_of(qtype, rng)
        name = qtype.name.lower()
        (out / f"{name}.blocks").write_bytes(raw.tobytes())
        (out / f"{name}.f32").write_bytes(dequantize(raw, qtype).astype("<f4").tobytes())
    x = values(rng)
    (out / "quantize.f32").write_bytes(x.tobytes())
    for qtype in (T.Q8_0, T.Q4_0):
        (out / f"{qtype.name.lower()}.quantized").write_bytes(quantize(x, qtype).tobytes())


if __name__ == "__main__":
    main()
