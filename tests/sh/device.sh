#!/bin/sh
# --device: every way in which it cannot be had is one sentence and exit code 1; the emulated GPU answers where it is built.
set -eu
says() { # WORDS COMMAND...
    words=$1
    shift
    code=0
    "$@" >"$TEST_DIR/out" 2>"$TEST_DIR/err" || code=$?
    [ "$code" = 1 ] || { echo "exit code $code of: $*"; cat "$TEST_DIR/err"; exit 1; }
    [ "$(wc -l <"$TEST_DIR/err")" = 1 ] || { echo "not one sentence: $*"; cat "$TEST_DIR/err"; exit 1; }
    grep -qF -e "$words" "$TEST_DIR/err" || { echo "no \"$words\" in:"; cat "$TEST_DIR/err"; exit 1; }
}
none=$TEST_DIR/none.so
says "expected cpu, gpu, gpu:K" "$R1" plan micro --device tpu
says "expected cpu, gpu, gpu:K" "$R1" plan micro --device gpu:x
says "several GPUs is not built" "$R1" plan micro --device gpu:0,1
says "built without CUDA" env R1_GPU_PLUGIN="$none" "$R1" plan micro --device gpu
says "make emulated" env R1_GPU_PLUGIN="$none" "$R1" plan micro --device emulated
echo "no library" >"$none"
says "cannot be opened" env R1_GPU_PLUGIN="$none" "$R1" plan micro --device gpu

other() { # DEFINITIONS: a plugin of that version and behaviour
    printf '#include "gpu/gpu.h"\n#include <stddef.h>\n%s\n' "$1" >"$TEST_DIR/other.c"
    cc -std=c11 -D_GNU_SOURCE -shared -fPIC -I. "$TEST_DIR/other.c" core/base/status.c -o "$none"
}
other 'const GpuPlugin *r1_gpu_plugin(void) { static const GpuPlugin p = {R1_GPU_ABI + 1, OPS_ABI}; return &p; }'
says "another version of r1" env R1_GPU_PLUGIN="$none" "$R1" plan micro --device gpu
other 'const GpuPlugin *r1_gpu_plugin(void) { static const GpuPlugin p = {R1_GPU_ABI, OPS_ABI + 1}; return &p; }'
says "another version of r1" env R1_GPU_PLUGIN="$none" "$R1" plan micro --device gpu

[ -e "$BUILD/gpu/libr1_emulated.so" ] || { echo "no C++ compiler: the emulated GPU is not built"; exit 77; }
export R1_GPU_PLUGIN="$BUILD/gpu/libr1_emulated.so"
says "there is no GPU 7" "$R1" plan micro --device gpu:7
says "in f32 the GPU backend has native" "$R1" plan micro --device gpu --matmul openblas
says "in bf16 the GPU backend has" "$R1" plan micro --device gpu --precision bf16 --matmul onednn
says "is for the CPU" "$R1" bench --device emulated --peers
R1_EMU_MEMORY=1000 "$R1" plan micro --device emulated >"$TEST_DIR/out" 2>&1 && { echo "1000 bytes are enough?"; cat "$TEST_DIR/out"; exit 1; }
"$R1" plan micro --device emulated >/dev/null
