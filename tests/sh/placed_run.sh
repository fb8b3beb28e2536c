#!/bin/sh
# r1 run of a model larger than --memory: adapters, or a part of the model, trained by SFT and GRPO with evaluations in between,
# while frozen experts rest on disk, give the weights of a run with everything in memory, also after kill -9. What cannot be is
# refused with what would fit.
set -eu
. tests/lib.sh
export OMP_WAIT_POLICY=passive
cd "$TEST_DIR"
run() { "$R1" run "$@" --threads 1 --quiet; }
hashes() { grep -o '"weights_sha256[^,}]*' "$1/summary.json"; }
# The least memory that works, as the refusal says.
least() { run "$@" --out refused --memory 0.001 2>&1 | sed -n 's/.*--memory \([0-9.]*\) is the least.*/\1/p'; }

cat >base.yaml <<'END2'
model: {architecture: deepseek_v2, hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, kv_lora_rank: 16,
        qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, intermediate_size: 48, n_routed_experts: 16,
        num_experts_per_tok: 2, moe_intermediate_size: 1024, max_position_embeddings: 256}
tasks: [add]
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 24, batch: 4, lr: 1e-2, warmup: 0, eval_after: false}
END2
cat >lora.yaml <<'END2'
model: {from: base.hf}
lora: {rank: 4, alpha: 8, targets: [attention, mlp, experts]}
tasks: [add]
rewards: {accuracy: 1, overlong: {weight: 1, buffer: 6}}
eval: {n: 4, k: 1, quick_n: 2, quick_k: 1, max_tokens: 6}
stages:
  play: {kind: rl, steps: 3, prompts: 3, group: 4, max_tokens: 8, beta: 0.01, reference_reset: 2, eval_after: false, lr: 1e-2}
  sft: {kind: sft, from: play, steps: 3, batch: 4, traces: 16, warmup: 0, lr: 1e-2, eval_every: 2}
  latent: {kind: rl, from: sft, steps: 1, prompts: 2, group: 4, max_tokens: 8, beta: 0.01, cache: latent, eval_after: false}
END2
sed 's/^lora:.*/train: [self_attn, "layers.1.mlp.experts.[35].*", lm_head, "layers.2.mlp.gate"]/' lora.yaml >part.yaml
run base.yaml --out base >"$out" 2>"$said"
"$R1" export base/base --format hf -o base.hf >"$out"

for which in 'lora f32' 'part bf16' 'lora bf16'; do
    recipe=${which% *} precision=${which#* }
    run $recipe.yaml --out all --precision $precision --memory 4 >"$out" 2>"$said" || complain "$recipe $precision in memory"
    # What the process takes itself is counted in steps of 32 MB, so that near one of them two calls may differ.
    for try in 1 2 3 4 5; do
        rm -rf refused some
        gb=$(least $recipe.yaml --precision $precision)
        [ -n "$gb" ] || complain "$recipe --memory 0.001 does not say what would fit"
        placed=0
        R1_STRICT=1 R1_RING=2 run $recipe.yaml --out some --precision $precision --memory "$gb" >"$out" 2>"$said" || placed=$?
        grep -q 'is the least' "$said" || break
    done
    [ $placed = 0 ] || complain "$recipe $precision --memory $gb, $try tries: $(tail -n 1 "$said")"
    grep -q 'stay on disk' "$said" || complain "$recipe $precision --memory $gb: nothing stayed on disk"
    expect "$(hashes all)" "$(hashes some)"
    grep '"play"' some/metrics.jsonl | grep -q '"gap": 0.0,' || complain "$recipe $precision: no step's gap is 0"
    grep '"play"' some/metrics.jsonl | grep -q '"disk": {"experts": [1-9]' || complain "$recipe $precision: no step says what it read"
    if grep -q '"disk"' all/metrics.jsonl; then complain "$recipe $precision: in memory, and something was read"; fi
    rm -rf refused whole some
    mv all whole
done

# Killed in the middle of a stage of each kind, it ends as the one that was not.
for at in '"play", "step": 2,' '"sft", "step": 1,'; do
    kill_when "\"stage\": $at" killed/metrics.jsonl env R1_STRICT=1 "$R1" run lora.yaml --precision bf16 --memory "$gb" \
        --threads 1 --checkpoint-seconds 0 --quiet --out killed
done
run lora.yaml --precision bf16 --memory 4 --out killed >"$out" 2>"$said" || complain "killed: $(tail -n 1 "$said")"
expect "$(hashes whole)" "$(hashes killed)"

# Samples are drawn from such a model too; this one has no answer right, here and in memory.
sed '/^  [pl]/d; s/from: play, //; s/, eval_every: 2/, eval_after: false/' lora.yaml >draw.yaml
echo '  drawn: {kind: rejection, from: sft, sample_from: sft, samples: 2, sample_prompts: 4, general_ratio: 0, steps: 1, batch: 2}' >>draw.yaml
! R1_STRICT=1 R1_RING=2 run draw.yaml --precision bf16 --memory "$gb" --out drawn >"$out" 2>"$said" || complain 'a sample is right'
tail -n 1 "$said" | grep -q 'no sample of stage drawn was correct' || complain "drawn: $(tail -n 1 "$said")"
expect_says 'checkpoints/sft.h5 is larger than its memory'

# A file that is cut while the run reads it ends it with one sentence and its last state whole.
cp -r base.hf cut.hf
R1_RING=2 run lora.yaml --precision bf16 --memory "$gb" --set model.from=cut.hf --checkpoint-seconds 0 --out cut >"$out" 2>"$said" &
child=$!
until grep -qs '"play", "step": 1,' cut/metrics.jsonl; do
    kill -0 $child 2>/dev/null || break
    sleep 0.01
done
truncate -s 100000 cut.hf/model.safetensors
! wait $child || complain 'a cut file is not noticed'
tail -n 1 "$said" | grep -q 'ends before byte .*: it was cut while it was read' || complain "cut: $(tail -n 1 "$said")"
cp base.hf/model.safetensors cut.hf/
run lora.yaml --precision bf16 --memory "$gb" --set model.from=cut.hf --out cut >"$out" 2>"$said" || complain "whole again: $(tail -n 1 "$said")"
expect "$(hashes whole)" "$(hashes cut)"

refused() { # WORDS COMMAND...
    words=$1
    shift
    expect_exit 1 "$R1" run "$@" --quiet --out no
    tail -n 1 "$said" | grep -qF -e "$words" || complain "did not say: $words: $(tail -n 1 "$said")"
    rm -rf no
}
sed '/^lora:/d' lora.yaml >full.yaml
refused 'all of them are trained: name a part with `train`, or train adapters with `lora`' full.yaml --memory 0.08
refused 'rollout_bf16 makes a copy of all of them' lora.yaml --memory 0.08 --set play.rollout_bf16=true --until play
refused "PPO's critic needs its own and the policy's in memory" lora.yaml --memory 0.08 --set play.loss=ppo --until play
refused '--matmul openblas makes a copy of every weight' lora.yaml --memory "$(least lora.yaml)" --matmul openblas
