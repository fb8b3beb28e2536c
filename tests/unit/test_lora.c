/* Low-rank adapters in the whole model: places in the table, no effect while B is 0, gradients against the chain rule in double
 * through the merged model and against central differences, sampling against training to the bit, frozen weights. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/base/philox.h"
#include "core/batches.h"
#include "core/policy.h"
#include "tests/unit/policy_values.h"
#include "recipes/model/machine.h"
#include "tests/tolerances.h"

enum { VOCAB = 61, MODELS = 4 };

/* V2-Lite's kind, V3's kind with query latents, Qwen2 and tied Llama, with adapters on everything that they have. */
static ModelConfig model(int which)
{
    ModelConfig c = {.arch = which < 2    ? ARCH_DEEPSEEK_V2
                             : which == 2 ? ARCH_QWEN2
                                          : ARCH_LLAMA,
                     .V = VOCAB,
                     .L = 2,
                     .F = 56,
                     .eps = 1e-6f,
                     .rope = {.theta = 10000.0f, .interleaved = which < 2},
                     .max_positions = 512,
                     .tied = which == 3,
                     .init_std = 0.15f,
                     .bos = 0,
                     .eos = 1};
    if (which < 2) {
        c.attention = ATTENTION_MLA;
        c.C = 48, c.H = c.Hkv = 3, c.Rq = which ? 20 : 0, c.Rkv = 24, c.Dn = 12, c.Dr = 8, c.Dv = 14;
        c.E = 5, c.S = 1, c.K = 2, c.moe_F = 20, c.first_dense = 1, c.moe_freq = 1;
        c.n_group = c.topk_group = 1, c.routed_scale = 1.0f;
        if (which) c.arch = ARCH_DEEPSEEK_V3, c.topk = TOPK_NOAUX, c.score = SCORE_SIGMOID, c.norm_topk = true;
    } else {
        c.attention = ATTENTION_GQA;
        c.C = 40, c.H = 4, c.Hkv = 2, c.Dr = c.Dv = 10, c.qkv_bias = which == 2;
        c.n_group = c.topk_group = c.moe_freq = 1, c.routed_scale = 1.0f;
    }
    return c;
}

static ModelConfig with_lora(ModelConfig c, bool rslora)
{
    c.lora = (LoraConfig){.rank = 3, .alpha = 5.0f, .rslora = rslora, .targets = lora_targets_of(&c)};
    return c;
}

static float *initial(const ModelConfig *c, float b_std)
{
    ParamTable t = params_build(c);
    float *block = memory_block(t.total * sizeof *block);
    CHECK(block);
    params_init(&t, c, block, 7);
    for (int i = 0; i < t.n; i++)
        if (t.params[i].kind == PARAM_LORA_B && b_std > 0)
            rng_fill_normal(block + t.params[i].offset, t.params[i].count, b_std, 9, t.params[i].name);
    params_free(&t);
    return block;
}

typedef struct Setup {
    Machine machine;
    Policy *policy;
} Setup;

static Setup open_with(ModelConfig c, DType precision, float *block, size_t keep)
{
    Setup s;
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = 1;
    o.dtype = precision;
    if (!config_validate(&c, &st) || !machine_open(&s.machine, &o, &st)) fail_msg("%s", st.text);
    s.policy = policy_new(machine_engine(&s.machine), &c, 7, block);
    s.policy->engine.keep_bytes = keep;
    return s;
}

static void close_setup(Setup *s)
{
    policy_free(s->policy);
    machine_close(&s->machine);
}

static void random_batch(BatchBuilder *b, int n, int length)
{
    int32_t ids[512];
    Rng r = rng_stream(3, RNG_DATA, 1, 1);
    for (int s = 0; s < n; s++) {
        int T = length / 2 + (int)rng_below(&r, (uint32_t)length);
        for (int i = 0; i < T; i++) ids[i] = (int32_t)rng_below(&r, VOCAB);
        batch_add(b, ids, T, 1);
    }
}

/* The mean loss of a fixed batch; with train also its gradient. lp [M] or NULL. */
static double loss_of(Setup *s, bool train, float *lp, int *M)
{
    BatchBuilder b = {0};
    random_batch(&b, 4, 40);
    if (M) *M = b.m;
    float *weight = malloc((size_t)b.m * sizeof *weight), *out_lp = malloc((size_t)b.m * sizeof *weight);
    CHECK(weight && out_lp);
    nll_weights_mean(weight, b.targets, b.m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {
        .batch = batch_view(&b), .predict = batch_predictions(&b), .inv_temperature = 1.0f, .loss = &loss};
    double sum = 0;
    if (train) {
        TrainOut out;
        policy_train_open(s->policy);
        train_gradients(&s->policy->engine, &s->policy->w, &s->policy->g, &task, &out);
        memcpy(out_lp, out.rows.lp, (size_t)b.m * sizeof *lp);
    } else {
        train_log_probs(&s->policy->engine, &s->policy->w, task.batch, &task.predict, 1.0f, out_lp, NULL);
    }
    for (int i = 0; i < b.m; i++) sum -= (double)weight[i] * out_lp[i];
    if (lp) memcpy(lp, out_lp, (size_t)b.m * sizeof *lp);
    free(weight), free(out_lp);
    batch_free(&b);
    return sum;
}

static void table(void **state)
{
    (void)state;
    for (int k = 0; k < MODELS; k++) {
        ModelConfig c = model(k), l = with_lora(c, false);
        ParamTable base = params_build(&c), t = params_build(&l);
        assert_int_equal(base.adapters, base.n);
        assert_int_equal(t.adapters, base.n);
        assert_null(base.lora);
        size_t end = 0;
        for (int i = 0; i < base.n; i++) {
            assert_string_equal(t.params[i].name, base.params[i].name);
            assert_true(t.params[i].offset == base.params[i].offset && !t.params[i].trained);
            end = t.params[i].offset + t.params[i].count;
            int a = t.lora[i][0], b = t.lora[i][1];
            assert_true((a >= 0) == (param_lora_target(t.params[i].kind) >= 0) && (a >= 0) == (b >= 0));
            if (a < 0) continue;
            assert_true(t.params[a].base == i && t.params[b].base == i && t.params[a].layer == t.params[i].layer);
            assert_true(t.params[a].rows == 3 && t.params[a].cols == t.params[i].cols);
            assert_true(t.params[b].rows == t.params[i].rows && t.params[b].cols == 3);
            assert_true(t.params[a].trained && t.params[b].trained && t.params[a].offset >= end);
            if (param_joins(t.params[i].kind))
                assert_true(t.params[a].offset == t.params[a - 1].offset + t.params[a - 1].count);
        }
        char name[120];
        snprintf(name, sizeof name, "model.layers.1.self_attn.o_proj.lora_B.weight");
        assert_true(params_find_name(&t, name) >= t.adapters);
        params_free(&base), params_free(&t);
    }
}

/* Adapters begin as A of +-1 / sqrt(in) and B = 0: the log-probs are the base's, byte by byte. */
static void no_effect_at_first(void **state)
{
    (void)state;
    for (int k = 0; k < MODELS; k++)
        for (int p = 0; p < 2; p++) {
            ModelConfig c = model(k), l = with_lora(c, false);
            float *block = initial(&l, 0);
            ParamTable t = params_build(&l);
            const Param *a = &t.params[t.adapters];
            double sum = 0, most = 0;
            for (size_t i = 0; i < a->count; i++) {
                sum += block[a->offset + i];
                most = fmax(most, fabsf(block[a->offset + i]));
            }
            double bound = 1.0 / sqrt((double)a->cols);
            assert_true(most <= bound && most > 0.9 * bound && fabs(sum / (double)a->count) < 0.2 * bound);
            params_free(&t);
            Setup base = open_with(c, (DType)p, initial(&c, 0), 0), with = open_with(l, (DType)p, block, 0);
            float want[1024], got[1024];
            int M;
            loss_of(&base, false, want, &M);
            loss_of(&with, false, got, NULL);
            assert_true(M < 1024);
            assert_memory_equal(got, want, (size_t)M * sizeof *got);
            close_setup(&base), close_setup(&with);
        }
}

/* W + s B A in double, of every matrix with an adapter, laid out by the table without adapters. */
static float *merged(const ModelConfig *l, const ParamTable *t, const float *block)
{
    ModelConfig c = *l;
    c.lora = (LoraConfig){0};
    ParamTable base = params_build(&c);
    float *out = memory_block(base.total * sizeof *out);
    CHECK(out);
    memset(out, 0, base.total * sizeof *out);
    for (int i = 0; i < base.n; i++) {
        const Param *w = &base.params[i];
        memcpy(out + w->offset, block + w->offset, w->count * sizeof *out);
        if (t->lora[i][0] < 0) continue;
        const float *a = block + t->params[t->lora[i][0]].offset, *b = block + t->params[t->lora[i][1]].offset;
        size_t r = (size_t)l->lora.rank;
        for (size_t o = 0; o < w->rows; o++)
            for (size_t j = 0; j < w->cols; j++) {
                double sum = 0;
                for (size_t k = 0; k < r; k++) sum += (double)b[o * r + k] * a[k * w->cols + j];
                float *at = out + w->offset + o * w->cols + j;
                *at = (float)((double)*at + (double)lora_scale(&l->lora) * sum);
            }
    }
    params_free(&base);
    return out;
}

/* |got - want| / |want| of all adapters together. */
typedef struct Relative {
    double error, size;
} Relative;

static void compare(Relative *r, const float *got, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        r->error += (got[i] - want[i]) * (got[i] - want[i]);
        r->size += want[i] * want[i];
    }
}

/* With W' = W + s B A: dA = s B^T dW', dB = s dW' A^T. dW' is the gradient of the merged model, all of which is trained
 * (the golden tests hold it to the reference implementation); the products are taken in double. */
static void chain_rule(const ModelConfig *l, const float *block, const Policy *with, const float *dense, Relative *r)
{
    ParamTable t = params_build(l);
    size_t rank = (size_t)l->lora.rank;
    double s = lora_scale(&l->lora);
    for (int i = 0; i < t.adapters; i++) {
        if (t.lora[i][0] < 0) continue;
        const Param *w = &t.params[i], *pa = &t.params[t.lora[i][0]], *pb = &t.params[t.lora[i][1]];
        const float *a = block + pa->offset, *b = block + pb->offset, *dw = dense + w->offset;
        double *da = calloc(pa->count, sizeof *da), *db = calloc(pb->count, sizeof *db);
        for (size_t o = 0; o < w->rows; o++)
            for (size_t j = 0; j < w->cols; j++)
                for (size_t k = 0; k < rank; k++) {
                    da[k * w->cols + j] += s * b[o * rank + k] * dw[o * w->cols + j];
                    db[o * rank + k] += s * dw[o * w->cols + j] * a[k * w->cols + j];
                }
        Relative one = {0};
        compare(&one, with->grads + pa->state, da, pa->count);
        compare(&one, with->grads + pb->state, db, pb->count);
        if (!(sqrt(one.error / one.size) < 1e-4))
            fail_msg("%s: relative error %.3g of its gradients", w->name, sqrt(one.error / one.size));
        r->error += one.error, r->size += one.size;
        free(da), free(db);
    }
    params_free(&t);
}

static void gradients(void **state)
{
    (void)state;
    for (int k = 0; k < MODELS; k++) {
        ModelConfig l = with_lora(model(k), k % 2), c = model(k);
        float *block = initial(&l, 0.1f);
        ParamTable t = params_build(&l);
        Setup with = open_with(l, DTYPE_F32, block, (size_t)(k % 2) << 30);
        Setup dense = open_with(c, DTYPE_F32, merged(&l, &t, block), 0);
        double loss = loss_of(&with, true, NULL, NULL), want = loss_of(&dense, true, NULL, NULL);
        assert_true(fabs(loss - want) < 1e-5);
        Relative r = {0};
        chain_rule(&l, block, with.policy, dense.policy->grads, &r);
        if (!(sqrt(r.error / r.size) < 2e-5)) fail_msg("model %d: %.3g", k, sqrt(r.error / r.size));

        params_free(&t);
        close_setup(&with), close_setup(&dense);
    }
}

/* Central difference of the loss along its gradient g: (f(x + h g) - f(x - h g)) / 2 h = |g|^2 + O(h^2). Every expert is
 * chosen, so that the loss has no jumps. */
static void differences(void **state)
{
    (void)state;
    for (int k = 0; k < MODELS; k++) {
        ModelConfig c = model(k);
        c.K = c.E;
        ModelConfig l = with_lora(c, false);
        ParamTable t = params_build(&l);
        Setup with = open_with(l, DTYPE_F32, initial(&l, 0.1f), 0);
        loss_of(&with, true, NULL, NULL);
        double size = 0, f[2];
        for (int i = t.adapters; i < t.n; i++)
            for (size_t j = 0; j < t.params[i].count; j++) {
                double g = with.policy->grads[t.params[i].state + j];
                size += g * g;
            }
        float h = (float)(2e-3 / sqrt(size));
        for (int side = 0; side < 2; side++) {
            float *moved = initial(&l, 0.1f);
            for (int i = t.adapters; i < t.n; i++)
                for (size_t j = 0; j < t.params[i].count; j++)
                    moved[t.params[i].offset + j] += (side ? h : -h) * with.policy->grads[t.params[i].state + j];
            Setup m = open_with(l, DTYPE_F32, moved, 0);
            f[side] = loss_of(&m, false, NULL, NULL);
            close_setup(&m);
        }
        double slope = (f[1] - f[0]) / (2 * h);
        if (!(fabs(slope / size - 1) < 5e-4)) fail_msg("model %d: slope %.6g, |g|^2 %.6g", k, slope, size);
        params_free(&t);
        close_setup(&with);
    }
}

/* An update moves the adapters and nothing else; kept and recomputed layers give the same bits. */
static void base_stays(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        ModelConfig l = with_lora(model(0), false);
        ParamTable t = params_build(&l);
        float *after[2];
        for (int kept = 0; kept < 2; kept++) {
            Setup s = open_with(l, (DType)p, initial(&l, 0.1f), kept ? (size_t)1 << 30 : 0);
            OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.01f, .max_norm = 1.0f};
            Status st = {0};
            for (int i = 0; i < 2; i++) {
                loss_of(&s, true, NULL, NULL);
                if (!policy_update(s.policy, &o, 1e-3f, NULL, &st)) fail_msg("%s", st.text);
            }
            after[kept] = policy_values(s.policy);
            close_setup(&s);
        }
        assert_memory_equal(after[0], after[1], t.total * sizeof(float));
        float *before = initial(&l, 0.1f);
        for (int i = 0; i < t.n; i++) {
            const Param *w = &t.params[i];
            bool same = !memcmp(before + w->offset, after[0] + w->offset, w->count * sizeof(float));
            if (same != (i < t.adapters)) fail_msg("%s %s", w->name, same ? "did not move" : "moved");
        }
        memory_free(before);
        memory_free(after[0]), memory_free(after[1]);
        params_free(&t);
    }
}

/* Log-probs of the fixed batch under w. */
static float *log_probs(Setup *s, const Weights *w, size_t *bytes)
{
    BatchBuilder b = {0};
    random_batch(&b, 4, 40);
    Predictions predict = batch_predictions(&b);
    *bytes = (size_t)b.m * sizeof(float);
    float *lp = malloc(*bytes);
    CHECK(lp);
    train_log_probs(&s->policy->engine, w, batch_view(&b), &predict, 1.0f, lp, NULL);
    batch_free(&b);
    return lp;
}

/* The reference is the base with the adapters of then: no other copy of the base, the log-probs of then to the bit. */
static void reference(void **state)
{
    (void)state;
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.01f, .max_norm = 1.0f};
    for (int p = 0; p < 2; p++) {
        ModelConfig l = with_lora(model(1), false);
        Setup s = open_with(l, (DType)p, initial(&l, 0.1f), 0);
        Status st = {0};
        const ParamTable *t = &s.policy->engine.table;
        size_t n, states = weight_bytes_sum(weight_bytes(t, t->state_total, (DType)p));
        float *then = log_probs(&s, &s.policy->w, &n);
        loss_of(&s, true, NULL, NULL);
        size_t before = policy_bytes(s.policy);
        policy_reference_set(s.policy);
        assert_int_equal(policy_bytes(s.policy) - before, states);
        assert_true(4 * states < 3 * s.policy->engine.table.total * sizeof(float));
        for (int i = 0; i < 2; i++)
            if (!policy_update(s.policy, &o, 1e-2f, NULL, &st)) fail_msg("%s", st.text);
        float *now = log_probs(&s, &s.policy->w, &n), *ref = log_probs(&s, &s.policy->ref, &n);
        assert_memory_equal(ref, then, n);
        assert_memory_not_equal(now, then, n);
        policy_reference_set(s.policy);
        free(ref);
        ref = log_probs(&s, &s.policy->ref, &n);
        assert_memory_equal(ref, now, n);
        free(then), free(now), free(ref);
        close_setup(&s);
    }
}

enum { PROMPTS = 3, SAMPLES = 2, MAX_TOKENS = 40 };

/* Largest and root mean square difference between the sampler's log-probs and the trainer's. */
static double gap_of(Setup *s, CacheKind cache, double *rms)
{
    int32_t ids[PROMPTS][80], all[80 + MAX_TOKENS];
    const int lengths[PROMPTS] = {3, 64, 33};
    RolloutPrompt prompts[PROMPTS];
    for (int i = 0; i < PROMPTS; i++) {
        Rng r = rng_stream(5, RNG_DATA, 2, (uint64_t)i);
        for (int j = 0; j < lengths[i]; j++) ids[i][j] = (int32_t)rng_below(&r, VOCAB);
        prompts[i] = (RolloutPrompt){ids[i], lengths[i], (uint32_t)i};
    }
    RolloutSpec spec = {.slots = 4,
                        .samples = SAMPLES,
                        .max_tokens = MAX_TOKENS,
                        .cache = cache,
                        .sampling = {.temperature = 1.0f, .top_p = 1.0f},
                        .seed = 11,
                        .purpose = RNG_ROLLOUT};
    Completion out[PROMPTS * SAMPLES];
    Status st = {0};
    if (!rollout_run(s->policy->sampler, &s->policy->w, &spec, prompts, PROMPTS, out, NULL, &st))
        fail_msg("%s", st.text);
    BatchBuilder b = {0};
    for (int i = 0; i < PROMPTS * SAMPLES; i++) {
        const RolloutPrompt *p = &prompts[i / SAMPLES];
        memcpy(all, p->ids, (size_t)p->n * sizeof *all);
        memcpy(all + p->n, out[i].ids, (size_t)out[i].n * sizeof *all);
        batch_add(&b, all, p->n + out[i].n, p->n);
    }
    float *lp = malloc((size_t)b.m * sizeof *lp);
    Predictions predict = batch_predictions(&b);
    train_log_probs(&s->policy->engine, &s->policy->w, batch_view(&b), &predict, 1.0f, lp, NULL);
    double most = 0, sum = 0;
    int at = 0;
    for (int i = 0; i < PROMPTS * SAMPLES; i++)
        for (int t = 0; t < out[i].n; t++, at++) {
            double d = fabs((double)lp[at] - out[i].logprobs[t]);
            most = fmax(most, d);
            sum += d * d;
        }
    *rms = sqrt(sum / at);
    free(lp);
    batch_free(&b);
    return most;
}

static void gap(void **state)
{
    (void)state;
    double rms;
    for (int k = 0; k < MODELS; k++)
        for (int p = 0; p < 2; p++) {
            ModelConfig l = with_lora(model(k), false);
            Setup s = open_with(l, (DType)p, initial(&l, 0.02f), 0);
            assert_true(gap_of(&s, CACHE_EXACT, &rms) == 0.0);
            if (l.attention == ATTENTION_MLA) {
                double most = gap_of(&s, CACHE_LATENT, &rms);
                if (p == DTYPE_F32 && !(most > 0 && most < TOL_LATENT_LOGPROBS)) fail_msg("latent: %.3g", most);
                if (p == DTYPE_BF16 && !(rms > 0 && rms < TOL_LATENT_BF16_RMS)) fail_msg("latent: rms %.3g", rms);
            }
            close_setup(&s);
        }
}

static void refused(void **state)
{
    (void)state;
    ModelConfig c = model(0);
    const struct {
        LoraConfig lora;
        const char *said;
    } bad[] = {
        {{8, 16, false, 1u << LORA_K_PROJ}, "lora.targets has k_proj"},
        {{-1, 16, false, 1u << LORA_O_PROJ}, "lora.rank is -1"},
        {{8, 0, false, 1u << LORA_O_PROJ}, "lora.alpha is 0"},
        {{8, 16, false, 0}, "lora.targets is empty"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Status st = {0};
        c.lora = bad[i].lora;
        assert_false(config_validate(&c, &st));
        assert_non_null(strstr(st.text, bad[i].said));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),      cmocka_unit_test(no_effect_at_first),
        cmocka_unit_test(gradients),  cmocka_unit_test(differences),
        cmocka_unit_test(base_stays), cmocka_unit_test(gap),
        cmocka_unit_test(reference),  cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
