"""Makes quant_golden.json: blocks of each tensor type and the float32 values they stand for.

The values come from the `gguf` package (0.19.0) of the llama.cpp project, which shares no code with
this repository:

    pip install gguf==0.19.0 numpy
    python make_quant_golden.py > quant_golden.json

Scales are random half-precision bits without infinities and NaNs; everything else is random bytes.
"""

import json
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf.quants import GGML_QUANT_SIZES, dequantize

# Where the half-precision scales of a block stand.
SCALES = {
    T.F16: [0],
    T.Q4_0: [0],
    T.Q4_1: [0, 2],
    T.Q5_0: [0],
    T.Q5_1: [0, 2],
    T.Q8_0: [0],
    T.Q4_K: [0, 2],
    T.Q5_K: [0, 2],
    T.Q6_K: [208],
}

random = np.random.default_rng(20261122)


def blocks(kind, count):
    data = random.integers(0, 256, (count, GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in SCALES.get(kind, []):
        bits = random.integers(0, 1 << 16, count, dtype=np.uint16)
        endless = (bits & 0x7C00) == 0x7C00
        bits[endless] &= 0xBFFF
        data[:, at : at + 2] = bits.astype("<u2").view(np.uint8).reshape(count, 2)
    if kind in (T.F32, T.BF16):
        data[:, -1] &= 0xBF
    return data


golden = []
for kind in [T.F32, T.BF16, *SCALES]:
    values_per_block = GGML_QUANT_SIZES[kind][0]
    data = blocks(kind, 1536 // values_per_block if values_per_block > 1 else 64)
    stored = data
    if kind == T.F32:
        stored = data.reshape(-1).view("<f4")
    elif kind == T.F16:
        stored = data.reshape(-1).view("<f2")
    values = dequantize(stored, kind)
    golden.append(
        {
            "kind": kind.name,
            "blocks": data.tobytes().hex(),
            "values": values.astype("<f4").tobytes().hex(),
        }
    )
json.dump(golden, sys.stdout, indent=0)
print()
