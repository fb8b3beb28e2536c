#!/bin/sh
# r1 import and r1 export: models of every family go through a checkpoint and back, bit for bit; what cannot be is told.
set -eu
. tests/lib.sh
cd "$TEST_DIR"
golden=$OLDPWD/tests/golden
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6]}' >ids.jsonl


for family in v2_lite v2_full v2_yarn v3 qwen2 qwen3 llama; do
    "$R1" import "$golden/$family" -o "$family.h5" >out
    "$R1" export "$family.h5" --format hf -o "$family.hf" >out
    "$R1" export "$family.h5" --format gguf -o "$family.gguf" >out
    want=$("$R1" score "$golden/$family" --ids ids.jsonl)
    for back in h5 hf gguf; do expect "$want" "$("$R1" score "$family.$back" --ids ids.jsonl)"; done
done
"$R1" export v2_full.h5 --format gguf -o warned.gguf 2>said >out
grep -q 'other logits' said
for type in f16 bf16 q8_0; do
    "$R1" export llama.h5 --format gguf --dtype $type -o llama.$type.gguf >out
    "$R1" score llama.$type.gguf --ids ids.jsonl >out
done

expect_error 2 'it needs -o CKPT' "$R1" import llama.h5
expect_error 2 '--format onnx: expected hf, gguf or peft' "$R1" export llama.h5 --format onnx -o x
expect_error 2 '--dtype q8_0 is for --format gguf' "$R1" export llama.h5 --format hf --dtype q8_0 -o x
expect_error 2 '--dtype q4: expected f32, f16, bf16 or q8_0' "$R1" export llama.h5 --format gguf --dtype q4 -o x
expect_error 1 'without weights' "$R1" import deepseek-v2-lite -o x
expect_error 1 'llama.hf' "$R1" export llama.h5 --format hf -o llama.hf
expect_error 1 'nowhere' "$R1" import nowhere -o x
if [ -e x ]; then echo 'a failed command left x behind'; exit 1; fi

# moe_layer_freq 2: of four layers the third has experts; it is trained, goes out and comes back, and GGUF has no place for it.
cat >every2.yaml <<'END'
model: {architecture: deepseek_v2, hidden_size: 32, num_hidden_layers: 4, num_attention_heads: 2, kv_lora_rank: 16,
        qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, intermediate_size: 48, n_routed_experts: 4,
        num_experts_per_tok: 2, moe_intermediate_size: 16, first_k_dense_replace: 1, moe_layer_freq: 2}
tasks: [add]
rewards: {accuracy: 1, format: 0.5}
stages:
  base: {kind: pretrain, steps: 2, batch: 4, warmup: 0, eval_after: false}
END
"$R1" run every2.yaml --out every2 --threads 1 --quiet >out 2>said || { cat said; exit 1; }
expect 'layers.2' "$("$R1" inspect every2/base --tensors | grep -o 'layers\.[0-9]*\.mlp\.experts' | cut -d. -f1-2 | sort -u)"
"$R1" export every2/base --format hf -o every2.hf >out
expect "$("$R1" score every2/base --ids ids.jsonl)" "$("$R1" score every2.hf --ids ids.jsonl)"
expect_error 1 'moe_layer_freq 2 has no place in GGUF' "$R1" export every2.hf --format gguf -o every2.gguf
