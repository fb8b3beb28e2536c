"""What the peer scripts share: the models of `r1 bench` as transformers configs, and how a row is timed and printed.

The shapes are those of recipes/bench/model.c and recipes/bench/bench.c.
"""
import json
import os
import time

import torch
from transformers import DeepseekV2Config, LlamaConfig

V2 = dict(
    q_lora_rank=None, n_group=1, topk_group=1, topk_method="greedy", norm_topk_prob=False, routed_scaling_factor=1.0,
    first_k_dense_replace=1, tie_word_embeddings=False, attention_bias=False, max_position_embeddings=4096,
)


def config(model):
    if model == "tiny":
        return DeepseekV2Config(
            vocab_size=256, hidden_size=128, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4, kv_lora_rank=32,
            qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32, intermediate_size=384, n_routed_experts=8,
            n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=96, **V2)
    if model == "small":
        return DeepseekV2Config(
            vocab_size=8192, hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8, kv_lora_rank=128,
            qk_nope_head_dim=64, qk_rope_head_dim=32, v_head_dim=64, intermediate_size=1536, n_routed_experts=32,
            n_shared_experts=2, num_experts_per_tok=4, moe_intermediate_size=384, **V2)
    if model == "lite1":
        return DeepseekV2Config(
            vocab_size=1024, hidden_size=2048, num_hidden_layers=2, num_attention_heads=16, num_key_value_heads=16,
            kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128, intermediate_size=10944,
            n_routed_experts=64, n_shared_experts=2, num_experts_per_tok=6, moe_intermediate_size=1408, **V2)
    return LlamaConfig(
        vocab_size=49152, hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        intermediate_size=1536, rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=True, max_position_embeddings=8192)


DEVICE = os.environ.get("R1_PEER_DEVICE", "cpu")


def wait():
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def best(run, runs=3):
    """Seconds of the fastest of `runs` calls, after one to warm up; on a card until it has done them."""
    run()
    wait()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def report(name, seconds, tokens, note=""):
    """note: in what the peer differs from the row, for people to read."""
    print(json.dumps({"name": name, "seconds": seconds, "tokens_per_s": tokens / seconds, "note": note}), flush=True)
