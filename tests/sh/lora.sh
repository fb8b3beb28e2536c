#!/bin/sh
# Adapters on a small model: SFT, GRPO with the base as the reference (sampler and trainer agree to the bit), a killed run, the
# adapters as peft's folder and back, merged into the weights, and what is refused in one sentence.
set -eu
. tests/lib.sh
export OMP_WAIT_POLICY=passive
cd "$TEST_DIR"
run() { expect_exit 0 "$R1" run "$@" --threads 1 --quiet; }
hash_of() { "$R1" inspect "$1" --sha256 | grep weights_sha256; }
nll() { "$R1" score "$@" --ids ids.jsonl --threads 1 | tail -n 1 | sed 's/.*"nll": \([0-9.]*\).*/\1/'; }
near() { awk -v a="$1" -v b="$2" 'BEGIN { d = a - b; exit !(d < 2e-6 && d > -2e-6) }' || complain "$1 and $2 differ"; }

{
    small_v2 2 4 16
    cat <<'END'
tasks: [add]
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 30, batch: 8, warmup: 0, eval_after: false}
END
} >base.yaml
cat >lora.yaml <<'END'
model: {from: base/base}
lora: {rank: 4, alpha: 8, targets: [attention, mlp, experts]}
tasks: [add]
rewards: {accuracy: 1, overlong: {weight: 1, buffer: 6}}
stages:
  sft: {kind: sft, steps: 6, batch: 4, traces: 16, warmup: 0, lr: 1e-2, eval_after: false}
  zero: {kind: rl, from: sft, steps: 4, prompts: 4, group: 4, max_tokens: 8, beta: 0.01, reference_reset: 2, eval_after: false}
END
echo '{"ids": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]}' >ids.jsonl
run base.yaml --out base
run lora.yaml --out whole
run lora.yaml --out bf16 --set precision=bf16
for r in whole bf16; do
    python3 - $r <<'END' || complain "$r: a GRPO step whose gap is not 0"
import json, sys
steps = [json.loads(l) for l in open(sys.argv[1] + "/metrics.jsonl") if '"zero"' in l]
gaps = [s["gap"] for s in steps if "gap" in s]
assert len(gaps) == 4 and gaps.count(None) < 4, gaps
assert all(g is None or g == 0 for g in gaps), gaps
assert any(s["grad_norm"] > 0 for s in steps if "gap" in s)
END
done
run lora.yaml --out latent --set zero.cache=latent

# Killed in the middle of both stages, it ends as the one that was not.
for at in '"sft", "step": 3,' '"zero", "step": 2,'; do
    kill_when "\"stage\": $at" killed/metrics.jsonl "$R1" run lora.yaml --threads 1 --checkpoint-seconds 0 --quiet --out killed
done
run lora.yaml --out killed
for stage in sft zero; do expect "$(hash_of whole/$stage)" "$(hash_of killed/$stage)"; done

# The base stays; peft's folder and back; merged.
"$R1" export base/base --format hf -o base.hf >"$out"
"$R1" export whole/zero --format peft -o adapter >"$out"
"$R1" export whole/zero --format hf -o merged >"$out"
"$R1" export base.hf --adapter adapter --format hf -o merged.again >"$out"
cmp merged/model.safetensors merged.again/model.safetensors
"$R1" export whole/zero --format gguf -o merged.gguf >"$out"
trained=$(nll whole/zero)
near "$trained" "$(nll base.hf --adapter adapter)"
near "$trained" "$(nll merged)"
near "$trained" "$(nll merged.gguf)"
[ "$trained" != "$(nll base/base)" ] || complain 'nothing was trained'

# Another run begins with that adapter; steps of rate 0 leave it.
sed 's/^lora:.*/lora: {from: adapter}/' lora.yaml >more.yaml
run more.yaml --out more --set model.from=base.hf --set sft.lr=0 --until sft
near "$trained" "$(nll more/sft)"

refused() { # WORDS COMMAND...
    words=$1
    shift
    expect_exit 1 "$@"
    tail -n 1 "$said" | grep -qF -e "$words" || complain "did not say: $words"
}
refused "lora.targets names k_proj, which this deepseek_v2 model does not have, did you mean 'q_proj'?" \
    "$R1" run lora.yaml --out no1 --quiet --set 'lora.targets=[k_proj]'
refused "not 'kv_b_prj', did you mean 'kv_b_proj'?" "$R1" run lora.yaml --out no --quiet --set 'lora.targets=[kv_b_prj]'
refused "whose own weights are random and stay so" "$R1" run base.yaml --out no --quiet --set lora.rank=4
refused "has adapters of rank 4 and alpha 8" "$R1" run lora.yaml --out no2 --quiet --set model.from=whole/sft --set lora.rank=2
refused "has no adapters: --format peft" "$R1" export base/base --format peft -o no
refused "has adapters already" "$R1" score whole/sft --adapter adapter --ids ids.jsonl
refused "has no adapter_config.json" "$R1" score base.hf --adapter merged --ids ids.jsonl
[ ! -e no ] || complain 'a refused command left a folder'
