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

{
    small_v2 3 16 2048
    cat <<'END'
tasks: [add]
rewards: {accuracy: 1}
stages:
  base: {kind: pretrain, steps: 24, batch: 4, lr: 1e-2, warmup: 0, eval_after: false}
END
} >base.yaml
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

# What is planned is what the run does, and depends on rates: where the disk is slow experts stay and layers are computed again,
# where the processor is slow layers stay. Bits do not.
export XDG_CACHE_HOME="$TEST_DIR/cache"
rates() { # WHAT FACTOR: the measured ones with those of the disk or of the machine (what it computes) times so much
    python3 - "$@" <<'END'
import json, sys
path = "cache/r1/rates.json"
rates = json.load(open(path))
if sys.argv[1] == "disk":
    (disk,) = rates["disks"].values()
    disk["read"] *= float(sys.argv[2])
else:
    (cpu,) = rates["machines"].values()
    for product in ("forward", "backward_x", "backward_w"):
        cpu[product] = [x * float(sys.argv[2]) for x in cpu[product]]
json.dump(rates, open(path, "w"))
END
}
obeys() { # NAME GB: the run of NAME.yaml at that budget stays with what was planned, line by line; kept layers of `play` in $kept
    expect_exit 0 "$R1" plan "$1.yaml" --threads 1 --memory "$2"
    expect_prints '^play .*experts on disk: .* forward and backward of [0-9]* tokens [0-9.e+-]* s, [0-9.e-]* GB read, sampling before it [0-9.e+-]* s at most$'
    sed -n 's/^\([a-z]*\) .*\(experts on disk: [^;]*\);.*/\1: \2/p' "$out" >planned
    rm -rf obeyed
    expect_exit 0 "$R1" run "$1.yaml" --threads 1 --quiet --memory "$2" --out obeyed
    peak=$(sed -n 's/.* peak memory \([0-9]*\) MB;.*/\1/p' "$out") # of 2^20 bytes
    awk "BEGIN { exit !($peak * 1.048576 <= 1000 * $2) }" || complain "--memory $2, and its peak was $peak MB"
    grep '^[a-z]*: experts on disk: ' "$said" >run.said
    expect 3 "$(wc -l <run.said | tr -d ' ')"
    cmp planned run.said || complain "planned: $(cat planned); the run: $(cat run.said)"
    python3 - <<'END' || complain 'metrics say something else'
import json, re
for line in open("planned"):
    stage, stay, ring, kept, chunk = re.match(r"(\w+): .*?(\d+) of \d+ in memory, a ring of (\d+), (\d+) of .* of (\d+) rows", line).groups()
    steps = [s["stays"] for s in map(json.loads, open("obeyed/metrics.jsonl")) if s["stage"] == stage and "stays" in s]
    assert steps, stage
    for s in steps: # of a step with fewer tokens than the plan's more layers may fit; one without advantages keeps none
        assert (s["experts"], s["ring"], s["chunk"]) == (int(stay), int(ring), int(chunk)), (line, s)
        assert s.get("layers_kept", 9) >= int(kept) and ("layers_kept" in s or stage == "latent"), (line, s)
    if stage == "sft": print(kept, stay)
END
    kept=$(sed -n 's/^play.* \([0-9]*\) of [0-9]* layers kept.*/\1/p' planned)
}
# Experts of 1.6 MB, and kept layers of some 20.
sed 's/moe_intermediate_size: 2048/moe_intermediate_size: 4096/; s/steps: 24/steps: 2/' base.yaml >wide.yaml
expect_exit 0 "$R1" run wide.yaml --threads 1 --quiet --out wide
expect_exit 0 "$R1" export wide/base --format hf -o wide.hf
sed 's/base.hf/wide.hf/; s/steps: 3/steps: 1/' lora.yaml >obey.yaml
expect_exit 0 "$R1" plan obey.yaml --threads 1 --measure
expect_says 'measuring this machine'
find_least "$R1" plan obey.yaml --threads 1
for more in 0.026 0.031; do
    budget=$(awk "BEGIN { print $gb + $more }")
    rates disk 1e-6
    obeys obey "$budget"
    [ "$kept" -le 1 ] || complain "--memory $budget, a slow disk: $kept layers are kept"
    hashes obeyed >few_layers
    rates disk 1e6
    rates cpu 1e-4
    obeys obey "$budget"
    [ "$kept" -ge 2 ] || complain "--memory $budget, a slow processor: $kept layers are kept"
    hashes obeyed | cmp - few_layers
    rates cpu 1e4
done

for which in 'lora f32' 'part bf16' 'lora bf16'; do
    recipe=${which% *} precision=${which#* }
    run $recipe.yaml --out all --precision $precision --memory 4 >"$out" 2>"$said" || complain "$recipe $precision in memory"
    find_least "$R1" run $recipe.yaml --out refused --precision $precision --threads 1 --quiet
    [ ! -e refused ] || complain 'a refused run left a folder'
    R1_STRICT=1 R1_RING=2 run $recipe.yaml --out some --precision $precision --memory "$gb" >"$out" 2>"$said" ||
        complain "$recipe $precision --memory $gb: $(tail -n 1 "$said")"
    grep -q 'stay on disk' "$said" || complain "$recipe $precision --memory $gb: nothing stayed on disk"
    expect "$(hashes all)" "$(hashes some)"
    grep '"play"' some/metrics.jsonl | grep -q '"gap": 0.0,' || complain "$recipe $precision: no step's gap is 0"
    grep '"play"' some/metrics.jsonl | grep -q '"disk": {"experts": [1-9]' || complain "$recipe $precision: no step says what it read"
    if grep -q '"disk"' all/metrics.jsonl; then complain "$recipe $precision: in memory, and something was read"; fi
    rm -rf whole some
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
find_least "$R1" plan draw.yaml --precision bf16 --threads 1
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
    expect_exit 1 "$R1" run "$@" --quiet --out no/such
    tail -n 1 "$said" | grep -qF -e "$words" || complain "did not say: $words: $(tail -n 1 "$said")"
    [ ! -e no ] || complain "left a folder: $words"
}
sed '/^lora:/d' lora.yaml >full.yaml
refused 'all of them are trained: name a part with `train`, or train adapters with `lora`' full.yaml --memory 0.08
refused 'rollout_bf16 makes a copy of all of them' lora.yaml --memory 0.08 --set play.rollout_bf16=true --until play
refused "PPO's critic needs its own and the policy's in memory" lora.yaml --memory 0.08 --set play.loss=ppo --until play
refused '--matmul openblas makes a copy of every weight' lora.yaml --memory "$gb" --matmul openblas
