"""Training rows by PyTorch and transformers, as they come: `python tests/peers/torch_rows.py ROW`.

A bf16 row runs in the type that is the faster one for PyTorch: without the processor's bf16 instructions that is f32, by far,
and nobody would train in bf16 there.
"""
import sys

import torch
from transformers import AutoModelForCausalLM

import rows

SHAPES = {  # row: model, sequences, tokens of each
    "train_lite1": ("lite1", 2, 1024),
    "train_small": ("small", 8, 512),
    "train_tiny": ("tiny", 128, 96),
    "sft_smollm2": ("smollm2", 4, 512),
}


def faster_dtype(named):
    if rows.DEVICE != "cpu" or named == "f32" or torch.cpu.get_capabilities().get("avx512_bf16"):
        return {"f32": torch.float32, "bf16": torch.bfloat16}[named], ""
    return torch.float32, "peer in f32"


def main(name):
    work, _, named = name.rpartition("_")
    dtype, note = faster_dtype(named)
    model_name, sequences, length = SHAPES[work]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(rows.config(model_name), dtype=dtype).to(rows.DEVICE)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1)
    ids = torch.randint(0, model.config.vocab_size, (sequences, length), device=rows.DEVICE)

    def step():
        optimizer.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    rows.report(name, rows.best(step), sequences * length, note)


main(sys.argv[1])
