#include "tests/unit/places.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "tests/unit/far_backend.h"
#include "tests/unit/unit.h"

void trace(Trace *t, const void *bytes, size_t n)
{
    if (t->n + n > t->capacity) t->bytes = realloc(t->bytes, t->capacity = 2 * (t->n + n));
    assert_non_null(t->bytes);
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

void trace_check_equal(size_t number, Trace a, Trace b)
{
    assert_int_equal(a.n, b.n);
    for (size_t k = 0; k < a.n; k++)
        if (a.bytes[k] != b.bytes[k]) fail_msg("case %zu: byte %zu of %zu differs", number, k, a.n);
    free(a.bytes), free(b.bytes);
}

ModelConfig places_model(Arch arch)
{
    bool v3 = arch == ARCH_DEEPSEEK_V3, gqa = arch == ARCH_QWEN3;
    return (ModelConfig){.arch = arch,
                         .attention = gqa ? ATTENTION_GQA : ATTENTION_MLA,
                         .V = PLACES_VOCAB,
                         .C = 32,
                         .L = 3,
                         .H = 4,
                         .Hkv = gqa ? 2 : 4,
                         .Rq = v3 ? 20 : 0,
                         .Rkv = gqa ? 0 : 16,
                         .Dn = gqa ? 0 : 8,
                         .Dr = 8,
                         .Dv = 8,
                         .qk_norm = gqa,
                         .F = 48,
                         .E = gqa ? 0 : 8,
                         .S = gqa ? 0 : 1,
                         .K = gqa ? 0 : 2,
                         .moe_F = gqa ? 0 : 24,
                         .first_dense = gqa ? 0 : 1,
                         .moe_freq = gqa ? 0 : 1,
                         .score = v3 ? SCORE_SIGMOID : SCORE_SOFTMAX,
                         .topk = v3 ? TOPK_NOAUX : TOPK_GREEDY,
                         .n_group = gqa ? 0 : 1,
                         .topk_group = gqa ? 0 : 1,
                         .norm_topk = v3,
                         .routed_scale = 1.5f,
                         .eps = 1e-6f,
                         .rope = {.theta = 10000.0f, .interleaved = !gqa},
                         .max_positions = 512,
                         .init_std = 0.2f,
                         .bos = 0,
                         .eos = 1};
}

Backend *place_open(const Place *at, DType dtype, const Ops **ops)
{
    Status st = {0};
    CpuOptions cpu = {.threads = 1, .dtype = dtype, .bf16 = "widen"}; /* a copy in bf16 samples: the GPU's form */
    GpuOptions gpu = {.dtype = dtype, .matmul = at->matmul};
    if (at->plugin) at->plugin->emulate("forward", at->streams, false);
    Backend *b = at->plugin ? at->plugin->open(&gpu, ops, &st) : cpu_open(&cpu, ops, &st);
    if (!b) fail_msg("%s", st.text);
    if (at->late) setenv("R1_LATE", at->late, 1);
    else unsetenv("R1_LATE");
    if (at->far) far_open(ops, &b, at->slice_rows);
    return b;
}
