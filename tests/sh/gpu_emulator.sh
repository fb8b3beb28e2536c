#!/bin/sh
# The GPU emulator finds every planted fault and is silent on the twin without it: plain, under the address sanitizer, and with
# checked accesses. What gpu/kernel.h forbids does not compile.
set -eu
[ -x "$BUILD/gpu/emu_selftest_plain" ] || { echo "no C++ compiler: the emulator is not built"; exit 77; }
for mode in plain asan checked; do "$BUILD/gpu/emu_selftest_$mode"; done

compiles() { # BODY OF A KERNEL
    printf '#include "gpu/kernel.h"\n__global__ void k(float *x, int *n) { %s; (void)n; }\n' "$1" >"$TEST_DIR/k.cu"
    c++ -std=c++17 -fsyntax-only -I. -Igpu/emu -x c++ "$TEST_DIR/k.cu" 2>"$TEST_DIR/errors"
}
compiles 'x[0] += 1.0f' || { cat "$TEST_DIR/errors"; exit 1; }
for forbidden in 'atomicAdd(x, 1.0f)' 'atomicAdd(n, 1)' '__threadfence()' 'x[0] = __expf(x[0])' 'x[0] = fmaxf(x[0], 0.0f)'; do
    if compiles "$forbidden"; then echo "gpu/kernel.h lets $forbidden pass"; exit 1; fi
done
