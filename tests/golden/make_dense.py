#!/usr/bin/env python3
"""make_dense.py [CASE...]: the cases llama3_rope, linear_rope, dynamic_rope, llama_bias, qwen3_bias, glm4_moe of this folder, in the
layout that README.md describes, by transformers (eager attention, float32). `pip install torch transformers safetensors`; half a
minute; one thread, so that the same machine gives the same bytes."""
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
GREEDY, PROMPT = 16, 5


def dense(kind, **more):
    names = {"llama": "Llama", "qwen3": "Qwen3", "glm4_moe": "Glm4Moe"}
    return {"architectures": [names[kind] + "ForCausalLM"], "model_type": kind, "vocab_size": 64, "hidden_size": 32,
            "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
            "max_position_embeddings": 256, "attention_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": False,
            "initializer_range": 0.02, "bos_token_id": 0, "eos_token_id": 1, **more}


CASES = {
    "llama3_rope": ("Llama 3.1's rotary scaling (R1-Distill-Llama): waves below, between and above its two bounds",
                    dense("llama", rope_theta=500000.0, rope_scaling={
                        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                        "original_max_position_embeddings": 64}), (70, 22, 17)),
    "linear_rope": ("linear rotary scaling", dense("llama", rope_scaling={"rope_type": "linear", "factor": 4.0}), (40, 22, 17)),
    "dynamic_rope": ("dynamic rotary scaling up to max_position_embeddings: none",
                     dense("llama", max_position_embeddings=48, rope_scaling={"rope_type": "dynamic", "factor": 4.0}), (48, 22, 17)),
    "llama_bias": ("attention_bias and mlp_bias of a Llama", dense("llama", attention_bias=True, mlp_bias=True), (31, 22, 17)),
    "qwen3_bias": ("attention_bias of a Qwen3, under its norms of queries and keys", dense("qwen3", attention_bias=True, tie_word_embeddings=True),
                   (31, 22, 17)),
    "glm4_moe": ("GLM-4.5: V3's router under plain heads, attention_bias of q, k and v alone",
                 dense("glm4_moe", attention_bias=True, partial_rotary_factor=1.0, use_qk_norm=False, n_routed_experts=8,
                       n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=12, first_k_dense_replace=1, n_group=4,
                       topk_group=2, norm_topk_prob=True, routed_scaling_factor=1.5), (31, 22, 17)),
}


def hub(name, t):
    """A tensor of transformers as released checkpoints have it: an expert each, gate before up."""
    if name.endswith("mlp.experts.gate_up_proj"):
        for e, slab in enumerate(t):
            for part, half in zip(("gate_proj", "up_proj"), slab.chunk(2)):
                yield name.replace("gate_up_proj", f"{e}.{part}.weight"), half
    elif name.endswith("mlp.experts.down_proj"):
        for e, slab in enumerate(t):
            yield name.replace("down_proj", f"{e}.down_proj.weight"), slab
    else:
        yield name, t


def weight(name, shape, tied, gen):
    x = torch.randn(shape, generator=gen)
    if name.endswith("e_score_correction_bias"):
        return torch.rand(shape, generator=gen) * 0.2
    if name.endswith(".bias"):
        return 0.5 * x
    if "norm" in name:
        return 1 + 0.2 * x
    if "embed_tokens" in name:
        return 0.3 * x if tied else x + 0.5
    return (2.0 if name.startswith("lm_head") or ".q_" in name else 1.0) * x / math.sqrt(shape[-1])


def model_of(folder, cfg, seed):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(cfg, indent=1) + "\n")
    skeleton = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    gen, tied = torch.Generator().manual_seed(seed), cfg["tie_word_embeddings"]
    weights = {n: weight(n, t.shape, tied, gen) for name, p in skeleton.state_dict().items()
               if not (tied and name == "lm_head.weight") for n, t in hub(name, p)}
    save_file({n: t.contiguous() for n, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def greedy(model, ids):
    seq, margins = ids[:PROMPT].tolist(), []
    for _ in range(GREEDY):
        best = model(torch.tensor([seq])).logits[0, -1].topk(2)
        margins.append(float(best.values[0] - best.values[1]))
        seq.append(int(best.indices[0]))
    return torch.tensor(seq[PROMPT:], dtype=torch.int32), torch.tensor(margins)


def routers(model, out):
    """Keeps what the routers of sequence 0 say, in the names of README.md."""
    for l, layer in enumerate(model.model.layers):
        if not hasattr(layer.mlp, "gate"):
            continue

        def hook(module, args, result, l=l):
            logits = torch.nn.functional.linear(args[0].reshape(-1, args[0].shape[-1]).float(), module.weight.float())
            idx, order = result[2].sort(dim=-1)
            w = result[1]
            out.update({f"router.{l}.logits": logits, f"router.{l}.scores": logits.sigmoid(),
                        f"router.{l}.indices": idx.int(), f"router.{l}.weights": w.gather(-1, order)})
        yield layer.mlp.gate.register_forward_hook(hook)


def expected(model, lengths, seed):
    out, total, gen = {}, 0, torch.Generator().manual_seed(seed + 1000)
    for s, n in enumerate(lengths):
        ids = torch.randint(2, model.config.vocab_size, (n,), generator=gen)
        hooks = list(routers(model, out)) if s == 0 else []
        hidden = []
        if s == 0:
            hooks += [layer.register_forward_hook(lambda m, a, o: hidden.append(o if torch.is_tensor(o) else o[0])) for layer in model.model.layers]
        logits = model(ids[None]).logits[0]
        for h in hooks:
            h.remove()
        for i, h in enumerate(hidden):
            out[f"hidden.{i}"] = h[0]
        lp = logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[:, 0]
        total = total + lp.sum()
        out.update({f"ids.{s}": ids.int(), f"logits.{s}": logits, f"logprobs.{s}": lp})
        with torch.no_grad():
            out[f"greedy.{s}"], out[f"greedy_margin.{s}"] = greedy(model, ids)
    nll = -total / (sum(lengths) - len(lengths))
    nll.backward()
    out["nll"] = nll
    for name, p in model.named_parameters():
        for n, t in hub(name, p.grad):
            out["grad." + n] = t
    return {n: t.detach().clone().contiguous() for n, t in out.items()}


def main():
    torch.set_num_threads(1)
    for case in sys.argv[1:] or CASES:
        what, cfg, lengths = CASES[case]
        for seed in range(100):
            out = expected(model_of(HERE / case, cfg, seed), lengths, seed)
            margin = min(float(out[f"greedy_margin.{s}"].min()) for s in range(3))
            if margin > 1e-3:
                break
        save_file(out, HERE / case / "expected.safetensors")
        (HERE / case / "case.json").write_text(json.dumps({
            "case": case, "what": what, "seed": seed, "lengths": lengths, "nll": float(out["nll"]),
            "greedy_prompt_tokens": PROMPT, "greedy_min_margin": margin}, indent=1) + "\n")
        print(case, "seed", seed, "margin", margin, "nll", float(out["nll"]))


main()
