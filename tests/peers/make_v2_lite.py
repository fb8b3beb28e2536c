"""A random checkpoint of DeepSeek-V2-Lite's shape, in shards as published: `python make_v2_lite.py FOLDER [--layers 27] [--data 2]
[--vocab 102400] [--small]`. The first `--data` layers (and embedding, norm, head) hold random bf16 numbers; those of later layers
are holes in sparse files, which read as zeros, so that all 27 layers take 31 GB of names and few of disk. `--small` makes every
width tiny and keeps the numbers of layers, heads and experts: 5,291 tensors in 5 MB.
"""
import argparse
import json
from math import prod
from pathlib import Path
from random import Random

C, HEADS, RANK, NOPE, ROPE, VALUE, DENSE, EXPERTS, SHARED, EXPERT = 2048, 16, 512, 128, 64, 128, 10944, 64, 2, 1408
SHARD, PART = 2 << 30, 1 << 24
SMALL = {"C": 32, "RANK": 16, "NOPE": 8, "ROPE": 4, "VALUE": 8, "DENSE": 48, "EXPERT": 8, "SHARD": 1 << 20}
TEMPLATE = ("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + "
            "'\\n\\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif "
            "message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")


def config(layers, vocab):
    return {
        "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", "vocab_size": vocab, "hidden_size": C,
        "intermediate_size": DENSE, "moe_intermediate_size": EXPERT, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "n_shared_experts": SHARED, "n_routed_experts": EXPERTS, "routed_scaling_factor": 1.0,
        "kv_lora_rank": RANK, "q_lora_rank": None, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE, "qk_nope_head_dim": NOPE,
        "topk_method": "greedy", "n_group": 1, "topk_group": 1, "num_experts_per_tok": 6, "moe_layer_freq": 1,
        "first_k_dense_replace": 1, "norm_topk_prob": False, "scoring_func": "softmax", "aux_loss_alpha": 0.001, "seq_aux": True,
        "hidden_act": "silu", "max_position_embeddings": 163840, "initializer_range": 0.02, "rms_norm_eps": 1e-6,
        "rope_theta": 10000, "attention_bias": False, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 1,
        "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 0.707, "mscale_all_dim": 0.707,
                         "original_max_position_embeddings": 4096, "type": "yarn"}}


def tensors(layers, vocab):
    """(name, shape, layer) in the order of the published files."""
    yield "model.embed_tokens.weight", (vocab, C), -1
    for n in range(layers):
        p = f"model.layers.{n}."
        yield p + "self_attn.q_proj.weight", (HEADS * (NOPE + ROPE), C), n
        yield p + "self_attn.kv_a_proj_with_mqa.weight", (RANK + ROPE, C), n
        yield p + "self_attn.kv_a_layernorm.weight", (RANK,), n
        yield p + "self_attn.kv_b_proj.weight", (HEADS * (NOPE + VALUE), RANK), n
        yield p + "self_attn.o_proj.weight", (C, HEADS * VALUE), n
        blocks = {"mlp.": DENSE} if n == 0 else {f"mlp.experts.{e}.": EXPERT for e in range(EXPERTS)}
        if n:
            yield p + "mlp.gate.weight", (EXPERTS, C), n
            blocks["mlp.shared_experts."] = SHARED * EXPERT
        for block, width in blocks.items():
            yield p + block + "gate_proj.weight", (width, C), n
            yield p + block + "up_proj.weight", (width, C), n
            yield p + block + "down_proj.weight", (C, width), n
        yield p + "input_layernorm.weight", (C,), n
        yield p + "post_attention_layernorm.weight", (C,), n
    yield "model.norm.weight", (C,), -1
    yield "lm_head.weight", (vocab, C), -1


# The upper byte of a bf16 between 2^-7 and 2^-5, of either sign; a random lower byte has the last bit of the exponent.
UPPER = bytes(0x3c | b & 0x80 for b in range(256))


def values(shape, random):
    """Parts of bf16 words: ones for norms, random numbers of root mean square 0.019 for matrices."""
    if len(shape) == 1:
        yield b"\x80\x3f" * shape[0]
        return
    for left in range(prod(shape), 0, -PART):
        words = bytearray(random.randbytes(2 * min(left, PART)))
        words[1::2] = words[1::2].translate(UPPER)
        yield words


def write_shard(path, shard, data, random):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in shard:
        size = 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        start = f.tell()
        f.truncate(start + at)
        for name, shape, layer in shard:
            if layer < data:
                f.seek(start + header[name]["data_offsets"][0])
                f.writelines(values(shape, random))


def write_tokenizer(folder):
    """Bytes and the two special tokens; no merges."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(b for b in range(256) if b not in shown)}
    vocab = {alphabet[b]: 2 + b for b in range(256)}
    special = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
               for i, c in enumerate(("<bos>", "<eos>"))]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": []}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>", "chat_template": TEMPLATE}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=27)
    parser.add_argument("--data", type=int, default=2)
    parser.add_argument("--vocab", type=int)
    parser.add_argument("--small", action="store_true")
    a = parser.parse_args()
    globals().update(SMALL if a.small else {})
    a.vocab = a.vocab or (320 if a.small else 102400)
    a.folder.mkdir(parents=True)
    shards, size = [[]], 0
    for t in tensors(a.layers, a.vocab):
        bytes_ = 2 * prod(t[1])
        if size + bytes_ > SHARD:
            shards.append([])
            size = 0
        shards[-1].append(t)
        size += bytes_
    random, places = Random(0), {}
    for i, shard in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):06}.safetensors"
        write_shard(a.folder / name, shard, a.data, random)
        places |= {t[0]: name for t in shard}
    total = sum(2 * prod(t[1]) for shard in shards for t in shard)
    (a.folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": places}))
    (a.folder / "config.json").write_text(json.dumps(config(a.layers, a.vocab), indent=2))
    (a.folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 0, "eos_token_id": [1]}))
    write_tokenizer(a.folder)
    print(f"{a.folder}: {total / 2:,.0f} parameters in {len(shards)} shards, data in {min(a.data, a.layers)} of {a.layers} layers")


main()
