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

# A plan for a card: its limits are probed once and kept under its name; the seconds are the least that they allow. The plugin is the
# emulated one in a card's clothes, whose probes give numbers at once.
cat >"$TEST_DIR/card.c" <<'END'
#include "gpu/gpu.h"
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const GpuPlugin *inner;
static bool device(int i, GpuDevice *out, Status *st)
{
    if (!inner->device(i, out, st)) return false;
    strcpy(out->name, "a card");
    return true;
}
static double probe(void)
{
    usleep(1000);
    return strtod(getenv("CARD_WORK"), NULL);
}
static double rounds(Backend *b, long n) { (void)b, (void)n; return probe(); }
static double reads(Backend *b, const float *x, size_t n) { (void)b, (void)x, (void)n; return probe(); }
static double updates(Backend *b, float *x, size_t n) { (void)b, (void)x, (void)n; return probe(); }
const GpuPlugin *r1_gpu_plugin(void)
{
    static GpuPlugin p;
    const GpuPlugin *(*get)(void);
    *(void **)&get = dlsym(dlopen(getenv("CARD_INNER"), RTLD_NOW), "r1_gpu_plugin");
    inner = get();
    p = *inner;
    p.device = device, p.emulate = NULL, p.probe_fma = p.probe_bf16 = rounds, p.probe_read = reads, p.probe_update = updates;
    return &p;
}
END
cc -std=c11 -D_GNU_SOURCE -shared -fPIC -I. "$TEST_DIR/card.c" -o "$none" -ldl
export CARD_INNER="$R1_GPU_PLUGIN" XDG_CACHE_HOME="$TEST_DIR/cache"
plan() { # WORK: of a probe that takes a millisecond
    CARD_WORK=$1 R1_GPU_PLUGIN="$none" "$R1" plan tests/golden/v2_lite --batch 2 --length 16 --device gpu --json >"$TEST_DIR/plan.$1" 2>"$TEST_DIR/err" ||
        { cat "$TEST_DIR/err"; exit 1; }
}
plan 1e9
plan 1e6
python3 - "$TEST_DIR" <<'END'
import json, sys
first, again, kept = (json.load(open(sys.argv[1] + f)) for f in ("/plan.1e9", "/plan.1e6", "/cache/r1/rates.json"))
(name, rates), = kept["machines"].items()
assert name.startswith("gpu: emulated, sm_90, f32 matmul native"), name
assert 1e10 < rates["memory_read"] < 1e12 and 1e10 < rates["forward"][5] < 1e12, rates
assert abs(rates["forward"][0] / rates["memory_read"] - 0.5) < 1e-9, rates  # one row: two FLOPs a weight of four bytes
assert first["seconds_at_least"] == again["seconds_at_least"] > 0, (first, again)  # kept, not probed again
assert first["bytes"] == again["bytes"] and first["bytes"]["process now"] == 0
END

# No card: the plan says so, and counts its memory; --as is modelled.
unset R1_GPU_PLUGIN XDG_CACHE_HOME
[ -e "${R1%/*}/build/gpu/libr1_emulated.so" ] && ! nvidia-smi -L >/dev/null 2>&1 || exit 0
plan_says() { # WORDS OPTIONS
    "$R1" plan tests/golden/v2_lite --batch 2 --length 16 --device gpu ${2:-} >"$TEST_DIR/out" 2>"$TEST_DIR/err"
    grep -q "planned without a card" "$TEST_DIR/err" && grep -q "$1" "$TEST_DIR/out" || { cat "$TEST_DIR/out" "$TEST_DIR/err"; exit 1; }
}
plan_says "the number means nothing"
plan_says "modelled: --as gpu=24:60TF; nothing was measured" "--as gpu=24:60TF"
