/* The rows of `r1 bench`, and how one is measured. */
#include "recipes/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/memory.h"

#define TRAIN(row, of, type, n, T, script, big)                                                                        \
    {                                                                                                                  \
        .name = row, .kind = &bench_train, .dtype = type, .model = of, .sequences = n, .length = T, .peer = script,    \
        .large = big                                                                                                   \
    }
#define EXPERTS(row, total)                                                                                            \
    {                                                                                                                  \
        .name = row, .kind = &bench_train, .model = "tiny", .sequences = 128, .length = 96, .experts = total           \
    }
#define DECODE(row, of, type, n, prompt, new, kind_of_cache, script, big)                                              \
    {                                                                                                                  \
        .name = row, .kind = &bench_decode, .dtype = type, .model = of, .sequences = n, .length = prompt,              \
        .tokens = new, .samples = 1, .cache = kind_of_cache, .peer = script, .large = big                              \
    }
#define DECODE_TINY(row, n, kind_of_cache) DECODE(row, "tiny", DTYPE_F32, n, 64, 64, kind_of_cache, NULL, false)

/* The rows of the table first, then the curves: by tokens, by experts of which two are used, by sequences decoded at
 * once. */
static const BenchCase cases[] = {
    TRAIN("train_lite1_bf16", "lite1", DTYPE_BF16, 2, 1024, "torch_rows.py", true),
    TRAIN("train_lite1_f32", "lite1", DTYPE_F32, 2, 1024, "torch_rows.py", true),
    TRAIN("train_small_f32", "small", DTYPE_F32, 8, 512, "torch_rows.py", true),
    TRAIN("train_tiny_f32", "tiny", DTYPE_F32, 128, 96, "torch_rows.py", false),
    {.name = "grpo_tiny",
     .kind = &bench_grpo,
     .model = "tiny",
     .sequences = 8,
     .length = 12,
     .tokens = 48,
     .samples = 16,
     .peer = "trl_grpo.py"},
    {.name = "ppo_tiny",
     .kind = &bench_ppo,
     .model = "tiny",
     .sequences = 8,
     .length = 12,
     .tokens = 48,
     .samples = 16},
    TRAIN("sft_smollm2_bf16", "smollm2-135m", DTYPE_BF16, 4, 512, "torch_rows.py", true),
    DECODE("decode_smollm2_bf16_64", "smollm2-135m", DTYPE_BF16, 64, 64, 128, CACHE_EXACT, "llama_rows.py", true),
    {.name = "prefill_smollm2_bf16",
     .kind = &bench_prefill,
     .dtype = DTYPE_BF16,
     .model = "smollm2-135m",
     .sequences = 64,
     .length = 64,
     .tokens = 1,
     .samples = 1,
     .peer = "llama_rows.py",
     .large = true},
    DECODE("decode_smollm2_bf16_1", "smollm2-135m", DTYPE_BF16, 1, 64, 128, CACHE_EXACT, "llama_rows.py", true),
    {.name = "adamw", .kind = &bench_adamw},
    {.name = "adamw_split", .kind = &bench_adamw, .dtype = DTYPE_BF16},
    TRAIN("train_tiny_bf16", "tiny", DTYPE_BF16, 128, 96, NULL, false),
    TRAIN("train_tiny_f32_tokens_1536", "tiny", DTYPE_F32, 16, 96, NULL, false),
    TRAIN("train_tiny_f32_tokens_3072", "tiny", DTYPE_F32, 32, 96, NULL, false),
    TRAIN("train_tiny_f32_tokens_6144", "tiny", DTYPE_F32, 64, 96, NULL, false),
    EXPERTS("train_tiny_f32_experts_16", 16),
    EXPERTS("train_tiny_f32_experts_32", 32),
    EXPERTS("train_tiny_f32_experts_64", 64),
    DECODE_TINY("decode_tiny_f32_1", 1, CACHE_EXACT),
    DECODE_TINY("decode_tiny_f32_8", 8, CACHE_EXACT),
    DECODE_TINY("decode_tiny_f32_64", 64, CACHE_EXACT),
    DECODE_TINY("decode_tiny_f32_256", 256, CACHE_EXACT),
    DECODE_TINY("decode_tiny_f32_1_latent", 1, CACHE_LATENT),
    DECODE_TINY("decode_tiny_f32_8_latent", 8, CACHE_LATENT),
    DECODE_TINY("decode_tiny_f32_64_latent", 64, CACHE_LATENT),
    DECODE_TINY("decode_tiny_f32_256_latent", 256, CACHE_LATENT),
};

const BenchCase *bench_cases(int *n)
{
    *n = sizeof cases / sizeof *cases;
    return cases;
}

/* ---- the machine's limits */

bool bench_probe(Bench *b, Status *st)
{
    if (!b->probe && !(b->probe = limits_block(&b->limits, &b->machine, st))) return false;
    limits_probe(&b->limits, &b->machine, b->backend, b->probe, &b->peaks);
    return true;
}

/* ---- rows */

static double limit_seconds(const Bench *b, const BenchRow *r, Bound bound)
{
    if (bound == BOUND_FLOP) return r->flops / b->peaks.flops[r->dtype];
    return r->bytes / (bound == BOUND_READ ? b->peaks.read : b->peaks.copy);
}

static void add_row(Bench *b, BenchRow r)
{
    r.percent = r.seconds > 0 ? 100 * limit_seconds(b, &r, r.bound) / r.seconds : 0;
    CHECK(b->n < BENCH_ROWS);
    b->rows[b->n++] = r;
    if (b->print) bench_print_row(b, &r);
}

/* The rows of the ops, each of its fastest run; verbose: of each weight shape. */
static void add_op_rows(Bench *b, const BenchCase *c)
{
    OpTime by_op[64];
    int n = ops_clocked_by_op(b->times, by_op, 64);
    const OpTime *ops = by_op;
    double total = 0;
    for (int i = 0; i < n; i++) total += ops[i].seconds;
    if (b->machine.options.verbose) ops = ops_clocked_list(b->times, &n);
    for (int i = 0; i < n; i++) {
        const OpTime *o = &ops[i];
        BenchRow r = {.seconds = o->seconds,
                      .flops = o->flops,
                      .bytes = o->read + o->written,
                      .share = o->seconds / total,
                      .dtype = c->dtype,
                      .bound = o->written < o->read / 4 ? BOUND_READ : BOUND_COPY};
        if (b->machine.options.verbose && o->out)
            snprintf(r.name, sizeof r.name, "%s/%s_%zux%zu", c->name, o->op, o->out, o->in);
        else snprintf(r.name, sizeof r.name, "%s/%s", c->name, o->op);
        if (limit_seconds(b, &r, BOUND_FLOP) > limit_seconds(b, &r, r.bound)) r.bound = BOUND_FLOP;
        add_row(b, r);
    }
}

/* One run: *best is kept when it was faster. */
static bool time_run(Bench *b, const BenchCase *c, void *self, BenchWork *work, double *best, Status *st)
{
    double start = clock_seconds();
    if (!c->kind->run(self, work, st)) return false;
    b->machine.ops->device.wait(b->machine.backend, 0);
    double seconds = work->seconds > 0 ? work->seconds : clock_seconds() - start;
    if (seconds < *best) *best = seconds;
    return true;
}

bool bench_run(Bench *b, const BenchCase *c, Status *st)
{
    if (!bench_probe(b, st)) return false;
    b->machine.options.dtype = c->dtype;
    void *self = c->kind->open(b, c, st);
    if (!self) return false;
    BenchWork work;
    double best = INFINITY;
    int runs = (b->quick ? 2 : 3) - (c->large ? 1 : 0);
    bool ok = c->kind->warm ? c->kind->warm(self, st) : c->kind->run(self, &work, st);
    if (b->times) ops_clocked_reset(b->times);
    b->machine.ops->device.wait(b->machine.backend, 0);
    for (int i = 0; i < runs && ok; i++) {
        ok = time_run(b, c, self, &work, &best, st);
        if (b->times) ops_clocked_next_run(b->times);
    }
    if (b->times) ops_clocked_fastest(b->times);
    c->kind->close(self);
    ok = ok && bench_probe(b, st);
    if (!ok) return false;
    BenchRow r = {.seconds = best,
                  .tokens = work.tokens,
                  .flops = work.flops,
                  .bytes = work.bytes,
                  .share = -1,
                  .bound = c->kind->bound,
                  .dtype = c->dtype};
    snprintf(r.name, sizeof r.name, "%s", c->name);
    if (work.flops > 0 && limit_seconds(b, &r, BOUND_FLOP) > limit_seconds(b, &r, r.bound)) r.bound = BOUND_FLOP;
    add_row(b, r);
    if (c->kind->ops && b->times) add_op_rows(b, c);
    return true;
}
