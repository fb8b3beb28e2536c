/* The models of `r1 bench` and their cost. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/known_models.h"
#include "core/base/check.h"
#include "core/base/memory.h"
#include "recipes/bench/bench.h"

#define V2_LAYERS                                                                                                      \
    .arch = ARCH_DEEPSEEK_V2, .attention = ATTENTION_MLA, .first_dense = 1, .moe_freq = 1, .topk = TOPK_GREEDY,        \
    .score = SCORE_SOFTMAX, .n_group = 1, .topk_group = 1, .routed_scale = 1.0f, .eps = 1e-6f,                         \
    .rope = {.theta = 10000.0f, .interleaved = true}, .max_positions = 4096, .init_std = 0.02f, .bos = -1, .eos = -1

static const struct {
    const char *name;
    ModelConfig config;
} models[] = {
    {"tiny",
     {V2_LAYERS, .V = 256, .C = 128, .L = 4, .H = 4, .Hkv = 4, .Rkv = 32, .Dn = 32, .Dr = 16, .Dv = 32, .F = 384,
      .E = 8, .S = 1, .K = 2, .moe_F = 96}},
    {"small",
     {V2_LAYERS, .V = 8192, .C = 512, .L = 8, .H = 8, .Hkv = 8, .Rkv = 128, .Dn = 64, .Dr = 32, .Dv = 64, .F = 1536,
      .E = 32, .S = 2, .K = 4, .moe_F = 384}},
    {"lite1",
     {V2_LAYERS, .V = 1024, .C = 2048, .L = 2, .H = 16, .Hkv = 16, .Rkv = 512, .Dn = 128, .Dr = 64, .Dv = 128,
      .F = 10944, .E = 64, .S = 2, .K = 6, .moe_F = 1408}},
};

bool bench_model(const char *name, ModelConfig *out)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (!strcmp(models[i].name, name)) {
            *out = models[i].config;
            return true;
        }
    return known_model(name, out);
}

/* Uniform in +-sqrt(3) std, so of standard deviation std: routing and arithmetic are timed, not a distribution. */
static void fill_weights(const ParamTable *t, const ModelConfig *c, float *block)
{
    uint32_t x = 12345;
    float scale = c->init_std * sqrtf(3.0f) * 0x1p-31f;
    for (int i = 0; i < t->n; i++) {
        float *w = block + t->params[i].offset;
        for (size_t k = 0; k < t->params[i].count; k++) {
            x = x * 1664525u + 1013904223u;
            w[k] = t->params[i].init == INIT_ONES ? 1.0f : (float)(int32_t)x * scale;
        }
    }
}

Policy *bench_policy(Bench *b, const BenchCase *c, int blocks, size_t bytes, Status *st)
{
    ModelConfig config;
    CHECK(bench_model(c->model, &config));
    if (c->experts) config.E = c->experts;
    if (!config_validate(&config, st)) return NULL;
    ParamTable t = params_build(&config);
    double packed = c->samples > 0 ? 1 : 0, need = (blocks + packed) * (double)t.total * sizeof(float) + (double)bytes;
    double there = (double)(b->machine.cpu ? machine_free_memory() : b->machine.memory);
    if (need > there) {
        fail(st, "%s needs %.1f GB and %.1f GB are free; try `--only` with a smaller row", c->name, need / 1e9,
             there / 1e9);
        params_free(&t);
        return NULL;
    }
    float *weights = memory_block(t.total * sizeof(float));
    CHECK(weights != NULL);
    if (b->machine.cpu)
        b->machine.ops->fill(b->machine.backend, weights, t.total, 0.0f); /* by all threads: the pages are new */
    fill_weights(&t, &config, weights);
    params_free(&t);
    return policy_new(machine_engine(&b->machine), &config, 1, weights);
}

double bench_active(const Policy *p)
{
    const ModelConfig *c = &p->config;
    const ParamTable *t = &p->engine.table;
    double active = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *q = &t->params[i];
        if (q->ndim != 2 || (q->kind == PARAM_EMBED && !c->tied)) continue;
        active += (double)q->count * (q->expert >= 0 ? (double)c->K / c->E : 1.0);
    }
    return active;
}

int bench_sequences(const Bench *b, const BenchCase *c, double flops_of_one, int runs)
{
    const double usual_share = 0.65; /* of the peak */
    if (b->row_seconds <= 0 || !c->large) return c->sequences;
    double can = b->row_seconds * usual_share * b->peaks.flops[c->dtype] / (flops_of_one * runs);
    return can >= c->sequences ? c->sequences : can < 1 ? 1 : (int)can;
}

double bench_attention_flops(const ModelConfig *c, int n, int T)
{
    return 2.0 * c->L * c->H * (config_qk_dim(c) + c->Dv) * n * T * (T + 1.0) / 2;
}

int32_t *bench_tokens(const ModelConfig *c, size_t n, uint32_t seed)
{
    int32_t *ids = malloc(n * sizeof *ids);
    CHECK(ids != NULL);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % (uint32_t)c->V);
    }
    return ids;
}
