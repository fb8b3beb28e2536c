#!/bin/sh
# Kernels compile for sm_80 and sm_90 without warnings, spills or local memory, and bf16 products run on tensor cores: HMMA,
# ldmatrix and asynchronous copies are in the machine code of every product. The logs are made by `make test`.
set -eu
logs=$(find "$BUILD/gpu/gate" -name "*.log" 2>/dev/null || true)
[ -n "$logs" ] || { echo "no nvcc: kernels were not compiled for a card"; exit 77; }
find gpu/kernels -name '*.cu' | while read -r kernel; do
    log=$BUILD/gpu/gate/${kernel%.cu}.log
    [ -e "$log" ] || { echo "$kernel was not compiled: make gpu-gate"; exit 1; }
done
# shellcheck disable=SC2086
sh gpu/ptxas_gate.sh $logs

products="gemm/gemm_mma gemm/gate_up gemm/logits attention_mma attention_mma_bwd attention_mma_latent"
for kernel in $products; do
    python3 gpu/sass_count.py "$BUILD/gpu/gate/gpu/kernels/$kernel.o" >"$TEST_DIR/sass"
    # every product kernel, for both cards, has all three kinds of instruction; rows are ARCH KERNEL HMMA LDSM LDGSTS
    awk -v kernel="$kernel" '/gemm_mma|gate_up_mma|logits_mma|flash/ { n[$1]++; if (!($3 && $4 && $5)) { print kernel ": " $0; bad = 1 } }
        END { if (!n["sm_80"] || !n["sm_90"]) { print kernel ": no machine code"; bad = 1 } exit bad }' "$TEST_DIR/sass" ||
        { echo "^ no tensor-core product, ldmatrix or asynchronous copy"; exit 1; }
done

printf "ptxas info : Compiling entry function 'k' for 'sm_80'\n 8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\nptxas info : Used 9 registers\n" >"$TEST_DIR/spill"
if sh gpu/ptxas_gate.sh "$TEST_DIR/spill" >/dev/null; then echo "the gate lets a spill pass"; exit 1; fi
