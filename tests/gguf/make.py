"""Blocks of every quantised type that is read, and what the public gguf package (0.19.0) makes of them.

pip install gguf safetensors numpy; python make.py OUT.safetensors. Q8_0 also the other way: `quantised` from `plain`.
"""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants
from safetensors.numpy import save_file

rng = np.random.default_rng(7)
tensors = {}
# where the f16 scales of a block lie: they are drawn small, the rest is any byte
scales = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
          T.Q2_K: [80, 82], T.Q3_K: [108], T.IQ4_NL: [0], T.IQ4_XS: [0]}
for kind, places in scales.items():
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (8 if elements == 32 else 3, size), dtype=np.uint8)
    for place in places:
        blocks[:, place:place + 2] = rng.normal(0, 0.1, len(blocks)).astype(np.float16).view(np.uint8).reshape(-1, 2)
    tensors[f"{kind.name}.blocks"] = blocks
    tensors[f"{kind.name}.values"] = np.ascontiguousarray(quants.dequantize(blocks, kind).astype(np.float32))
plain = rng.normal(0, 1, (7, 32)).astype(np.float32)
plain[3] = 0
plain[4, 5] = 1e-7
tensors["Q8_0.plain"] = plain
tensors["Q8_0.quantised"] = quants.quantize(plain, T.Q8_0)
save_file(tensors, sys.argv[1])
