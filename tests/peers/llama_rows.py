"""Sampling rows by llama.cpp: `python tests/peers/llama_rows.py ROW`, with `sh tests/peers/setup.sh llama` done before.

A GGUF file of the row's shape and type with random weights is written to .venv once. Ids are drawn, not sampled: what is
timed is the model, as in recipes/bench/rollout.c.
"""
import os
import sys
import time

import gguf
import llama_cpp as llama
import numpy as np

import rows

PROMPT, NEW = 64, 128


def model_file(dtype):
    """SmolLM2-135M's shape; the vocabulary has no text."""
    path = f".venv/smollm2-{dtype}.gguf"
    if os.path.exists(path):
        return path
    c = rows.config("smollm2")
    d, kv = c.hidden_size, c.num_key_value_heads * c.hidden_size // c.num_attention_heads
    w = gguf.GGUFWriter(path + ".part", "llama")
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(d)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(100000.0)
    w.add_vocab_size(c.vocab_size)
    w.add_tokenizer_model("no_vocab")
    rng = np.random.default_rng(0)

    def matrix(name, out, width):
        x = rng.standard_normal((out, width), dtype=np.float32) * 0.04
        if dtype == "bf16":
            w.add_tensor(name, (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            w.add_tensor(name, x)

    matrix("token_embd.weight", c.vocab_size, d)
    for i in range(c.num_hidden_layers):
        for name, out, width in (("attn_q", d, d), ("attn_k", kv, d), ("attn_v", kv, d), ("attn_output", d, d),
                                 ("ffn_gate", c.intermediate_size, d), ("ffn_up", c.intermediate_size, d),
                                 ("ffn_down", d, c.intermediate_size)):
            matrix(f"blk.{i}.{name}.weight", out, width)
        for name in ("attn_norm", "ffn_norm"):
            w.add_tensor(f"blk.{i}.{name}.weight", np.ones(d, np.float32))
    w.add_tensor("output_norm.weight", np.ones(d, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.rename(path + ".part", path)
    return path


def decode(context, batch, tokens):
    """One call; tokens: (id, position, sequence, whether its logits are wanted)."""
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence, wanted) in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0], batch.logits[i] = sequence, wanted
    if llama.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")


def main(name):
    work, dtype = name.split("_")[0], name.split("_")[2]
    sequences = int(name.split("_")[3]) if work == "decode" else 64
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(model_file(dtype).encode(), llama.llama_model_default_params())
    params = llama.llama_context_default_params()
    params.n_ctx = sequences * (PROMPT + NEW)
    params.n_batch = sequences * PROMPT
    params.n_ubatch = 512
    params.n_seq_max = sequences
    params.n_threads = params.n_threads_batch = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
    context = llama.llama_init_from_model(model, params)
    batch = llama.llama_batch_init(sequences * PROMPT, 0, 1)
    ids = np.random.default_rng(1).integers(0, 49152, (sequences, PROMPT + NEW)).tolist()
    seconds = {"prefill": [], "decode": []}
    for _ in range(3):
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        start = time.perf_counter()
        decode(context, batch, [(ids[s][t], t, s, t == PROMPT - 1) for s in range(sequences) for t in range(PROMPT)])
        prefilled = time.perf_counter()
        for t in range(PROMPT, PROMPT + NEW if work == "decode" else PROMPT):
            decode(context, batch, [(ids[s][t], t, s, True) for s in range(sequences)])
        seconds["prefill"].append(prefilled - start)
        seconds["decode"].append(time.perf_counter() - prefilled)
    rows.report(name, min(seconds[work]), sequences * (NEW if work == "decode" else PROMPT))


main(sys.argv[1])
