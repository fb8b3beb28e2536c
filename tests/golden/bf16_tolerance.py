#!/usr/bin/env python3
"""bf16_tolerance.py [FOLDER [CASE...]]: how far the public reference implementation itself is from the values in CASE/expected.safetensors
when it computes in bf16 (weights and activations; its norms, softmaxes and routers are in float32 by its own code). Writes
CASE/bf16.json for every case; tests/unit/test_golden_bf16.c asks that r1.c in bf16 is no further away.

An expert chosen or not is a jump that no rounding error bounds. So every number but `flips` is measured with the experts
that the float32 run chose, their weights from the bf16 run's own router; `flips` counts, over layers and tokens, those where
that router would have chosen others.

    relative L2 error |got - want| / |want|: hidden (per layer, sequence 0), logits (all three sequences), scores (router),
    grad (per kind of tensor, "mlp.experts.up_proj": all of the kind as one vector)
    logprobs: root mean square error; it bounds what can be asked of the mean, nll

Needs what make.py needed (README, "Regenerate"). One thread; bf16 sums differ a little between machines.
"""
import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

CASES = "v2_lite", "v2_full", "v2_yarn", "v3", "qwen2", "qwen3", "llama", "llama_bias", "qwen3_bias", "llama3_rope", "linear_rope", "dynamic_rope", "glm4_moe"
SIGMOID = "deepseek_v3", "glm4_moe"  # the router of V3


def to_hub(name, t):
    """One in-memory tensor of transformers -> (checkpoint name, tensor): fused experts are split, gate rows first."""
    if name.endswith("mlp.experts.gate_up_proj"):
        for e, slab in enumerate(t):
            for part, half in zip(("gate_proj", "up_proj"), slab.chunk(2)):
                yield name.replace("gate_up_proj", f"{e}.{part}.weight"), half
    elif name.endswith("mlp.experts.down_proj"):
        for e, slab in enumerate(t):
            yield name.replace("down_proj", f"{e}.down_proj.weight"), slab
    else:
        yield name, t


def kind_of(name):
    """"model.layers.1.mlp.experts.3.up_proj.weight" -> "mlp.experts.up_proj.weight"."""
    return re.sub(r"experts\.\d+\.", "experts.", re.sub(r"^model\.(layers\.\d+\.)?", "", name))


class Run:
    """A model; what each layer put out and each router chose. forced: per router call, the experts to use instead."""

    def __init__(self, folder, dtype):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager",
                                                          experts_implementation="eager").eval()
        self.cfg, self.forced = json.loads((folder / "config.json").read_text()), None
        for layer in self.model.model.layers:
            layer.register_forward_hook(lambda m, i, o: self.hidden.append(o[0]))
            if hasattr(layer.mlp, "gate"):
                layer.mlp.gate.register_forward_hook(self.on_route)

    def weights_of(self, logits, indices):
        """model.md 4.2: the final weights of given experts (transformers' V2 never normalises and always scales)."""
        v3 = self.cfg["model_type"] in SIGMOID
        w = (logits.sigmoid() if v3 else logits.softmax(-1)).gather(-1, indices)
        if v3 and self.cfg["norm_topk_prob"]:
            w = w / (w.sum(-1, keepdim=True) + 1e-20)
        return w * self.cfg["routed_scaling_factor"]

    def on_route(self, module, inputs, output):
        logits, weights, indices = output
        v3 = self.cfg["model_type"] in SIGMOID
        assert torch.allclose(self.weights_of(logits, indices).to(weights.dtype), weights, rtol=1e-5), "weights by another rule"
        self.scores.append(logits.sigmoid() if v3 else logits.softmax(-1))
        self.routes.append(indices.sort(-1)[0])
        if self.forced is None:
            return None
        indices = self.forced[len(self.routes) - 1]
        return logits, self.weights_of(logits, indices).to(weights.dtype), indices

    def __call__(self, seqs, forced=None):
        self.hidden, self.routes, self.scores, self.forced = [], [], [], forced
        return [self.model(input_ids=ids[None].long(), use_cache=False).logits[0] for ids in seqs]


def relative(pairs):
    """|got - want| / |want| over (got, want) as one vector."""
    pairs = [(g.double().flatten(), w.double().flatten()) for g, w in pairs]
    return (sum(((g - w)**2).sum() for g, w in pairs) / sum((w**2).sum() for _, w in pairs)).sqrt().item()


def log_probs(logits, ids):
    return logits[:-1].float().log_softmax(-1).gather(1, ids[1:, None].long())[:, 0]


def measure(folder):
    want = load_file(folder / "expected.safetensors")
    seqs = [want[f"ids.{s}"] for s in range(3)]
    exact, run = Run(folder, torch.float32), Run(folder, torch.bfloat16)
    with torch.no_grad():
        exact(seqs)
    logits = run(seqs, exact.routes)
    flips = sum(int((a != b).any(-1).sum()) for a, b in zip(run.routes, exact.routes))
    lp = [log_probs(l, ids) for l, ids in zip(logits, seqs)]
    (-torch.cat(lp).mean()).backward()
    squares = torch.cat([lp[s] - want[f"logprobs.{s}"] for s in range(3)]).double()**2
    layers = len(run.model.model.layers)
    out = {"hidden": [relative([(run.hidden[l], want[f"hidden.{l}"])]) for l in range(layers)],
           "logits": relative([(logits[s], want[f"logits.{s}"]) for s in range(3)]),
           "logprobs": squares.mean().sqrt().item()}
    if exact.routes:
        out |= {"scores": relative(list(zip(run.scores, exact.scores))), "flips": flips,
                "routes": sum(len(r) for r in exact.routes)}
    kinds = {}
    for name, p in run.model.named_parameters():
        if not p.requires_grad or f"grad.{next(to_hub(name, p))[0]}" not in want:
            continue
        for n, g in to_hub(name, torch.zeros_like(p) if p.grad is None else p.grad):
            kinds.setdefault(kind_of(n), []).append((g, want[f"grad.{n}"]))
    return out | {"grad": {k: relative(v) for k, v in kinds.items()}}


def rounded(v):
    if isinstance(v, dict):
        return {k: rounded(x) for k, x in v.items()}
    return [rounded(x) for x in v] if isinstance(v, list) else float(f"{v:.3g}") if isinstance(v, float) else v


def main():
    torch.set_num_threads(1)
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent
    for case in sys.argv[2:] or CASES:
        numbers = rounded(measure(home / case))
        (home / case / "bf16.json").write_text(json.dumps(numbers, indent=1) + "\n")
        print(case, {k: v for k, v in numbers.items() if k != "grad"}, "worst grad", max(numbers["grad"].values()), flush=True)


if __name__ == "__main__":
    main()
