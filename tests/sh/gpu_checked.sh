#!/bin/sh
# The tests of ops with every access of the GPU's kernels checked: no race between threads or blocks, no access outside of a variable
# in shared memory, nothing in shared memory that is read before it is written.
set -eu
[ -e "$BUILD/gpu/libr1_emulated_checked.so" ] || { echo "no C++ compiler: the emulated GPU is not built"; exit 77; }
export R1_GPU_PLUGIN="$BUILD/gpu/libr1_emulated_checked.so"
check() { # TEST [ONLY]: those of its cases
    R1_LAB_ONLY=${2:-*} "$BUILD/tests/test_$1" >"$TEST_DIR/out" 2>&1 || { cat "$TEST_DIR/out"; exit 1; }
    if grep "emulated GPU" "$TEST_DIR/out"; then echo "^ test_$1"; exit 1; fi
}
for test in ops_rows ops_rows_bf16 ops_head ops_router ops_optimizer ops_linear attention attention_cache; do check $test; done
check ops_linear_bf16 tiles_agree
check ops_fused "bf16*"
check attention_bf16 "*tensor_cores"
