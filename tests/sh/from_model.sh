#!/bin/sh
# A model of others as a stage's beginning: its small files and its tokenizer go through checkpoints and the export;
# DeepSeek-V3's selection bias moves after an update, and nothing else differs when it may not.
set -eu
cd "$TEST_DIR"
run() { "$R1" run "$@" --threads 1 --quiet >out 2>said || { cat said; exit 1; }; }

cat >base.yaml <<'END'
model: {architecture: deepseek_v3, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, kv_lora_rank: 16,
        qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, intermediate_size: 48, n_routed_experts: 4,
        num_experts_per_tok: 2, moe_intermediate_size: 16}
tasks: [add]
rewards: {accuracy: 1, format: 0.5}
stages:
  base: {kind: pretrain, steps: 2, batch: 8, warmup: 0, eval_after: false}
END
run base.yaml --out base
run base.yaml --out still --set balance.bias_speed=0
"$R1" export base/base --format hf -o hf >out
"$R1" export still/base --format hf -o still.hf >out
# Two steps: the bias of the second one's forward has moved, so all weights differ; after one step only the bias does.
run base.yaml --out one --set base.steps=1
run base.yaml --out one.still --set base.steps=1 --set balance.bias_speed=0
for r in one one.still; do "$R1" export $r/base --format hf -o $r.hf >out; done
differing=$(cmp -l one.hf/model.safetensors one.still.hf/model.safetensors | wc -l)
[ "$differing" -gt 0 ] && [ "$differing" -le 16 ] || { echo "$differing bytes differ, not those of a bias of 4 experts"; exit 1; }

printf '{"eos_token_id": [2, 5], "note": "kept"}' >hf/generation_config.json
printf '{"pad_token": "<eos>"}' >hf/special_tokens_map.json
cat >next.yaml <<'END'
model: {from: hf}
tasks: [add]
rewards: {accuracy: 1, format: 0.5}
stages:
  sft: {kind: sft, steps: 3, batch: 4, traces: 16, warmup: 0, eval_after: false}
  zero: {kind: rl, from: sft, steps: 1, prompts: 2, group: 2, max_tokens: 8, eval_after: false}
END
run next.yaml --out next
"$R1" export next/zero --format hf -o back >out
for f in generation_config.json special_tokens_map.json tokenizer.json; do cmp "hf/$f" "back/$f"; done
if cmp -s hf/model.safetensors back/model.safetensors; then echo 'nothing was trained'; exit 1; fi

# Balance keys meet the model's experts when it is opened, whatever `from:` is; those that its family does not read are named.
run base.yaml --set model.architecture=deepseek_v2 --out v2
"$R1" export v2/base --format hf -o v2.hf >out
balanced() { # FROM DEVICES: a run of two stages that begins with FROM
    "$R1" run next.yaml --set model.from="$1" --set balance.device=0.1 --set balance.devices="$2" --set stages='[sft]' --threads 1 --out "balanced$2" >out 2>said
}
for m in v2.hf v2/base; do
    for n in 3 8; do
        rm -rf "balanced$n"
        if balanced $m $n || ! grep -q "must be a multiple of them" said; then echo "$m: $n devices of 4 experts"; cat said; exit 1; fi
    done
done
balanced hf 2 || { cat said; exit 1; }
[ "$(grep -c "note: balance.device is 0.1, but no model of this recipe reads it" said)" = 1 ] || { echo "no word on balance.device"; cat said; exit 1; }
