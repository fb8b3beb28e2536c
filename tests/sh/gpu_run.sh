#!/bin/sh
# The emulated GPU gives the CPU's bits in whole commands: `r1 run micro` has equal weights in every stage up to RL, with queued work
# in random order; a run killed on one goes on on the other to the same weights; `r1 score` writes equal files for every family,
# in f32 and in bf16 widened. On tensor cores sampler and trainer are one function: the gap of a step of RL is 0.
set -eu
. tests/lib.sh
[ -e "$BUILD/gpu/libr1_emulated.so" ] || { echo "no C++ compiler: the emulated GPU is not built"; exit 77; }
export R1_GPU_PLUGIN="$BUILD/gpu/libr1_emulated.so" R1_EMU_STREAMS=random:1
steps="--set base.steps=12 --set zero.steps=3 --set cold_start.traces=24 --set cold_start.epochs=1 --set rl_reason.steps=2"
run() { "$R1" run micro $steps --quiet --out "$@" >"$out" 2>"$said" || { cat "$said"; exit 1; }; }
hashes() { find "$1" -name summary.json | sort | xargs grep -ho '"weights_sha256": *"[0-9a-f]*"'; }

run "$TEST_DIR/cpu" --until rl_reason
run "$TEST_DIR/gpu" --until rl_reason --device emulated
hashes "$TEST_DIR/cpu" >"$TEST_DIR/want"
[ "$(wc -l <"$TEST_DIR/want")" = 4 ] || complain "not four stages"
hashes "$TEST_DIR/gpu" | cmp - "$TEST_DIR/want" || complain "the emulated GPU's weights are others"

# crossed FOLDER FIRST SECOND: killed after a step of zero on FIRST, ended on SECOND.
crossed() {
    "$R1" run micro $steps --checkpoint-seconds 0 --quiet --out "$1" --until zero --device "$2" >"$out" 2>"$said" &
    child=$!
    until grep -qs '"stage": "zero", "step": 1,' "$1/metrics.jsonl"; do
        kill -0 $child 2>/dev/null || complain "the run ended before step 1 of zero on $2"
        sleep 0.01
    done
    kill -KILL $child 2>/dev/null || true
    wait $child 2>/dev/null || true
    run "$1" --until rl_reason --device "$3"
    hashes "$1" | cmp - "$TEST_DIR/want" || complain "begun on $2 and ended on $3, the weights are others"
}
crossed "$TEST_DIR/there" emulated cpu
crossed "$TEST_DIR/back" cpu emulated

echo '{"ids": [1, 2, 3, 5, 8, 13, 21, 34, 3, 1, 4, 1, 5, 9, 2, 6]}' >"$TEST_DIR/ids.jsonl"
echo '{"ids": [7]}' >>"$TEST_DIR/ids.jsonl"
echo '{"ids": [31, 30, 2]}' >>"$TEST_DIR/ids.jsonl"
for model in tests/golden/*/model.safetensors; do
    family=${model%/*} aux=
    case $family in */v*) aux="--aux expert=0.01,device=0.02,comm=0.03,seq=0.04,devices=2,limit=1" ;; esac
    # The CPU widens where it has no instruction for bf16.
    for device in cpu emulated; do
        if [ $device = cpu ]; then isa=avx2 matmul=''; else isa='' matmul="--matmul widen"; fi
        R1_ISA=$isa "$R1" score "$family" --ids "$TEST_DIR/ids.jsonl" --with logits,logprobs,hidden,grad $aux --precision bf16 $matmul \
            --out "$TEST_DIR/$device.bf16" --device "$device" >"$TEST_DIR/$device.out"
    done
    cmp "$TEST_DIR/cpu.bf16" "$TEST_DIR/emulated.bf16" || complain "r1 score of $family in bf16 writes another file"
    for device in cpu emulated; do
        "$R1" score "$family" --ids "$TEST_DIR/ids.jsonl" --with logits,logprobs,hidden,grad --out "$TEST_DIR/$device.score" $aux \
            --device "$device" >"$TEST_DIR/$device.out"
    done
    cmp "$TEST_DIR/cpu.out" "$TEST_DIR/emulated.out" || complain "r1 score of $family prints another thing"
    cmp "$TEST_DIR/cpu.score" "$TEST_DIR/emulated.score" || complain "r1 score of $family writes another file"
done

# Tensor cores: a step of training, one of RL.
"$R1" run micro --quiet --until zero --set base.steps=2 --set zero.steps=1 --set eval.n=1 --set eval.k=1 --out "$TEST_DIR/bf16" \
    --precision bf16 --device emulated >"$out" 2>"$said" || { cat "$said"; exit 1; }
grep -q "matmul mma (rows independent of the batch)" "$said" || complain "bf16 is not on tensor cores"
[ "$(grep -o '"gap": *[-+.0-9eE]*' "$TEST_DIR/bf16/metrics.jsonl")" = '"gap": 0.0' ] || complain "sampler and trainer differ in bf16"

# One training step, one of RL and their evaluations with every access checked: no race, no border crossed.
[ -e "$BUILD/gpu/libr1_emulated_checked.so" ] || exit 0
R1_GPU_PLUGIN="$BUILD/gpu/libr1_emulated_checked.so" R1_EMU_STREAMS=lazy "$R1" run micro --quiet --until zero --set base.steps=1 \
    --set zero.steps=1 --set eval.n=1 --set eval.k=1 --out "$TEST_DIR/checked" --device emulated:checked >"$out" 2>"$said" ||
    complain "the checked run failed"
if grep "emulated GPU" "$said"; then exit 1; fi
