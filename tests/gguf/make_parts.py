#!/usr/bin/env python3
"""make_parts.py: golden/llama_bias as a GGUF file in three parts, tests/gguf/parts-0000N-of-00003.gguf, by the public package
(pip install gguf==0.19.0 numpy safetensors), with the row order and the names that llama.cpp's convert_hf_to_gguf.py uses."""
import glob
import json
import os

import gguf
from safetensors.numpy import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}
WHOLE = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def name_of(hf):
    if hf in WHOLE:
        return WHOLE[hf]
    _, _, layer, rest = hf.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def permuted(x, heads):
    """LlamaModel.permute"""
    return x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def main():
    model = os.path.join(HERE, "..", "golden", "llama_bias")
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        c = json.load(f)
    for old in glob.glob(os.path.join(HERE, "parts-*.gguf")):
        os.remove(old)
    w = gguf.GGUFWriter(os.path.join(HERE, "parts.gguf"), "llama", split_max_tensors=12)
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(c["rope_theta"])
    for name, x in load_file(os.path.join(model, "model.safetensors")).items():
        if ".q_proj." in name:
            x = permuted(x, c["num_attention_heads"])
        if ".k_proj." in name:
            x = permuted(x, c["num_key_value_heads"])
        w.add_tensor(name_of(name), x)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


main()
