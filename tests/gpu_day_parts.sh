#!/bin/sh
# shellcheck disable=SC2154 # device, out: exported by gpu-day.sh
# The parts of tests/gpu-day.sh, which runs each by its name: sh tests/gpu_day_parts.sh PART. The last line that a part prints is its
# note; exit code 77: skipped.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export R1_LAB_DEVICE="$device" CUDA_LAUNCH_BLOCKING=
skip() { echo "$1"; exit 77; }

facts() {
    "$R1" --version 2>/dev/null | head -n 1 >"$out/facts.txt" || true
    if [ -n "$dry" ]; then echo "emulated device, $(uname -m)" | tee -a "$out/facts.txt"; return; fi
    nvcc --version 2>/dev/null | tail -n 1 >>"$out/facts.txt" || true
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,power.limit --format=csv,noheader >>"$out/facts.txt"
    tail -n 1 "$out/facts.txt"
}

build() {
    tests="ops_rows ops_rows_bf16 ops_linear ops_linear_bf16 ops_head ops_router ops_optimizer ops_balance attention attention_bf16
        attention_cache golden_bf16"
    if [ -z "$dry" ]; then
        arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
        make -s -j"$(nproc)" CC="$CC" BUILD="$BUILD" all
        make -s -j"$(nproc)" CC="$CC" BUILD="$BUILD" gpu GPU_ARCHS="$arch" | tail -n 1
    elif [ ! -e "$BUILD/gpu/libr1_emulated.so" ]; then
        skip "no C++ compiler: the emulated GPU is not built"
    fi
    for t in $tests; do
        [ -n "$dry" ] || make -s CC="$CC" BUILD="$BUILD" T=$t unit
    done
    echo "built"
}

# Tests of ops that give kernels the memory of malloc: where a card can read it they compare bits, else they say that they did not.
op_tests() {
    for t in "$@"; do
        [ -x "$BUILD/tests/test_$t" ] || { echo "test_$t is not built"; exit 1; }
        CUDA_LAUNCH_BLOCKING=1 "$BUILD/tests/test_$t" >"$work/log" 2>&1 || { cat "$work/log"; echo "test_$t failed"; exit 1; }
        cat "$work/log"
        if grep -q "not compared with the GPU\|not on the GPU" "$work/log"; then skip "$(grep -h "not compared\|not on" "$work/log" | head -n 1)"; fi
    done
    echo "$# programs, bits of the CPU"
}
ops_f32() {
    if [ -n "$dry" ]; then op_tests ops_rows; else op_tests ops_rows ops_linear ops_head ops_router ops_optimizer ops_balance attention attention_cache; fi
}
ops_bf16() {
    if [ -n "$dry" ]; then op_tests ops_rows_bf16; else op_tests ops_rows_bf16 ops_linear_bf16 attention_bf16; fi
}
golden_bf16() {
    op_tests golden_bf16
    echo "thirteen models within the tolerances of tests/tolerances.h"
}

# score_all OPTIONS: r1 score of the golden families, CPU against device, byte for byte.
score_all() {
    echo '{"ids": [1, 2, 3, 5, 8, 13, 21, 34, 3, 1, 4, 1, 5, 9, 2, 6]}' >"$work/ids"
    echo '{"ids": [7]}' >>"$work/ids"
    families=0
    for model in tests/golden/*/model.safetensors; do
        family=${model%/*}
        R1_ISA=avx2 "$R1" score "$family" --ids "$work/ids" --with logits,logprobs,hidden,grad --out "$work/cpu" ${1:-} >/dev/null
        "$R1" score "$family" --ids "$work/ids" --with logits,logprobs,hidden,grad --out "$work/device" ${1:-} ${2:-} --device "$device" >/dev/null
        cmp "$work/cpu" "$work/device"
        families=$((families + 1))
        if [ -n "$dry" ]; then break; fi
    done
    echo "$families models: logits, hidden states and gradients have the CPU's bits"
}
score_f32() { score_all; }
score_widen() { score_all "--precision bf16" "--matmul widen"; }

# run FOLDER OPTIONS: the micro recipe.
run() {
    folder=$1
    shift
    short=
    [ -z "$dry" ] || short="--until base --set base.steps=1 --set eval.n=1 --set eval.k=1"
    "$R1" run micro --quiet --out "$folder" $short "$@" >"$folder.log" 2>&1 || { cat "$folder.log"; exit 1; }
    find "$folder" -name summary.json | sort | xargs grep -ho '"weights_sha256": *"[0-9a-f]*"' >"$folder.sha"
}
micro_f32() {
    run "$work/cpu"
    run "$work/device" --device "$device"
    cmp "$work/cpu.sha" "$work/device.sha"
    echo "$(wc -l <"$work/cpu.sha") stages: the CPU's weights_sha256"
}
micro_bf16() {
    run "$work/one" --device "$device" --precision bf16
    R1_REPLAY=no
    export R1_REPLAY # every decode step issued, none replayed
    run "$work/two" --device "$device" --precision bf16
    unset R1_REPLAY
    cmp "$work/one.sha" "$work/two.sha"
    gap=$(grep -rho '"gap[a-z_]*": *[-+.0-9eE]*' "$work/one" | sort -u | tail -n 3 | tr '\n' ' ')
    echo "$(wc -l <"$work/one.sha") stages, twice the same weights; ${gap:-no gap was measured}"
}

# What a run would take, and the card's limits, which are kept for later plans.
plan() {
    "$R1" plan tiny --device "$device"
    "$R1" plan smollm2-135m --batch 4 --length 512 --precision bf16 --device "$device"
}

sanitize() {
    command -v compute-sanitizer >/dev/null || skip "no compute-sanitizer"
    echo '{"ids": [1, 2, 3, 5, 8, 13, 21, 34]}' >"$work/ids"
    for precision in f32 bf16; do
        compute-sanitizer --tool "$1" --error-exitcode 9 "$R1" score tests/golden/v2_lite --ids "$work/ids" --with logits,grad \
            --out "$work/out" --precision $precision --device "$device"
    done
    echo "no error"
}
memcheck() { sanitize memcheck; }
racecheck() { sanitize racecheck; }
initcheck() { sanitize initcheck; }

# One row after another, so that a row that fails or hangs costs only itself.
bench() {
    rows=decode_tiny_f32_1 missing=
    if [ -z "$dry" ]; then rows=$("$R1" bench --list); fi
    for row in $rows; do
        if timeout -k 5 40 "$R1" bench --json --quick --only "$row" --device "$device" >"$work/row"; then cat "$work/row" >>"$out/bench.jsonl"
        else missing="$missing $row"; fi
    done
    echo "$(wc -l <"$out/bench.jsonl") rows${missing:+; none of$missing}"
    [ -s "$out/bench.jsonl" ]
}

# PyTorch on the same card, on the rows that it has.
peers() {
    python3 -c 'import torch, transformers' 2>/dev/null || skip "no PyTorch with transformers here"
    if [ -n "$dry" ]; then skip "no card"; fi
    for row in train_tiny_f32 train_small_f32 train_lite1_f32 train_lite1_bf16 sft_smollm2_bf16; do
        R1_PEER_DEVICE=cuda timeout -k 5 55 python3 tests/peers/torch_rows.py $row 2>>"$out/peers.log" | grep '^{' >>"$out/peers.jsonl" ||
            echo "PyTorch: no $row"
    done
    echo "$(wc -l <"$out/peers.jsonl") rows by PyTorch $(python3 -c 'import torch; print(torch.__version__)')"
}

"$1"
