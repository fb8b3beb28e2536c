#!/bin/sh
# A trained part larger than the memory given: its weights, gradients and moments on disk, frozen experts in their file, give the
# weights of a run with everything in memory, in SFT and GRPO, in f32 and bf16, also after ten kills at any moment.
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
  base: {kind: pretrain, steps: 4, batch: 4, lr: 1e-2, warmup: 0, eval_after: false}
END
} >base.yaml
cat >part.yaml <<'END'
model: {from: base.hf}
train: ["layers.2.mlp.experts.*"]
tasks: [add]
rewards: {accuracy: 1}
eval: {n: 4, k: 1, quick_n: 2, quick_k: 1, max_tokens: 6}
stages:
  sft: {kind: sft, steps: 4, batch: 4, traces: 16, warmup: 0, lr: 1e-2, eval_every: 2}
  play: {kind: rl, from: sft, steps: 3, prompts: 3, group: 4, max_tokens: 8, beta: 0.01, reference_reset: 2, eval_after: false, lr: 1e-2}
END
run base.yaml --out base >"$out" 2>"$said"
"$R1" export base/base --format hf -o base.hf >"$out"

# The least memory that works; what is trained takes 50 MB in memory, of which the budget holds 2.
export R1_RESIDENT=2000000
find_least "$R1" plan part.yaml
in_memory=$gb
find_least "$R1" plan part.yaml --state state
# In memory where that is possible, which spares the waiting for a disk.
shm=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d -p "$TEST_DIR")
trap 'rm -rf "$shm"' EXIT
python3 -c 'import sys; sys.exit(not float(sys.argv[1]) > float(sys.argv[2]) + 0.035)' "$in_memory" "$gb" ||
    complain "--memory $in_memory in memory, $gb with --state"
dir=state
for precision in f32 bf16; do
    run part.yaml --out all_$precision --precision $precision --memory 4 >"$out" 2>"$said"
    "$R1" run part.yaml --threads 1 --out some_$precision --precision $precision --memory "$gb" --state "$dir" >"$out" 2>"$said" ||
        complain "$precision --memory $gb: $(tail -n 1 "$said")"
    expect_says "sft: trains 3145728 of .* parameters; backward visits 1 of 3 layers"
    expect_says "trained weights and gradients, 0.025[0-9]* GB, rest in $dir; 0.002 GB of them stay in memory"
    expect "$(hashes all_$precision)" "$(hashes some_$precision)"
    # What no plan counts: pages of 2 MB are filled up. Of the 25 MB that rest all would be too much.
    peak=$(sed -n 's/.*peak memory \([0-9]*\) MB.*/\1/p' "$out" "$said")
    awk -v peak="$peak" -v gb="$gb" 'BEGIN {exit !(peak > 1 && 1.048576 * peak <= 1000 * gb + 20)}' || complain "$precision: $peak MB of $gb GB"
    [ -z "$(ls "$dir")" ] || complain "left in $dir: $(ls "$dir")"
    dir=$shm/state
done

sed 's/^train:.*/lora: {rank: 64, alpha: 8, targets: [attention, experts]}/' part.yaml >lora.yaml

# Moments in fewer bits: the same weights wherever anything rests.
for form in bf16 8bit; do
    set -- part.yaml --precision bf16 --set optim.moments=$form
    run "$@" --out memory --memory 4 >"$out" 2>"$said"
    run "$@" --out state_memory --memory 4 --state "$dir" >"$out" 2>"$said"
    run "$@" --out placed --memory "$in_memory" >"$out" 2>"$said"
    run "$@" --out rests --memory "$gb" --state "$dir" >"$out" 2>"$said"
    for where in state_memory placed rests; do expect "$(hashes memory)" "$(hashes $where)"; done
    [ "$(hashes memory)" != "$(hashes all_bf16)" ] || complain "$form: the weights of f32 moments"
    rm -r memory state_memory placed rests
    run lora.yaml --set optim.moments=$form --until sft --out memory --memory 4 >"$out" 2>"$said"
    run lora.yaml --set optim.moments=$form --until sft --out state_memory --memory 4 --state "$dir" >"$out" 2>"$said"
    expect "$(hashes memory)" "$(hashes state_memory)"
    rm -r memory state_memory
done

for at in 1 2 3 3 4 4 1 1 2 2; do
    kill_after "\"step\": $at," killed/metrics.jsonl env R1_STRICT=1 "$R1" run part.yaml --threads 1 --quiet --precision bf16 \
        --out killed --memory "$gb" --state "$dir"
done
# Other frozen weights under the same name and of the same size.
flip() { # a bit of the last tensor
    python3 - base.hf/model.safetensors <<'END'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(-9, 2)
    byte = f.read(1)[0]
    f.seek(-9, 2)
    f.write(bytes([byte ^ 1]))
END
}
flip
expect_exit 1 "$R1" run part.yaml --threads 1 --quiet --precision bf16 --out killed --memory "$gb" --state "$dir"
expect_says "sft.json was made beside the frozen weights of .*base.hf, fingerprint [0-9a-f]*, and they are [0-9a-f]* now"
flip
run part.yaml --precision bf16 --out killed --memory "$gb" --state "$dir" >"$out" 2>"$said" || complain "killed: $(tail -n 1 "$said")"
expect "$(hashes all_bf16)" "$(hashes killed)"

# No room for what rests.
expect_exit 1 sh -c "ulimit -f 20000; exec $R1 run part.yaml --threads 1 --quiet --memory $gb --state $TEST_DIR/full --out $TEST_DIR/full_run"
expect_says "cannot write .*/full/.*: File too large"
