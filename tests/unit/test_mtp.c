/* Multi-token prediction: losses against a reference in double, gradients by central differences, the same bits under all
 * circumstances, modules that no step meets, files. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/model_file.h"
#include "core/batches.h"
#include "core/policy.h"
#include "recipes/model/machine.h"
#include "tests/tolerances.h"
#include "tests/unit/scratch.h"

enum { VOCAB = 37, LONGEST = 64 };

/* Two modules behind DeepSeek-V3's blocks. */
static ModelConfig v3(void)
{
    return (ModelConfig){.arch = ARCH_DEEPSEEK_V3,
                         .attention = ATTENTION_MLA,
                         .V = VOCAB,
                         .C = 24,
                         .L = 2,
                         .H = 2,
                         .Hkv = 2,
                         .Rq = 10,
                         .Rkv = 12,
                         .Dn = 8,
                         .Dr = 4,
                         .Dv = 6,
                         .F = 40,
                         .E = 4,
                         .S = 1,
                         .K = 2,
                         .moe_F = 12,
                         .first_dense = 1,
                         .moe_freq = 1,
                         .topk = TOPK_NOAUX,
                         .score = SCORE_SIGMOID,
                         .norm_topk = true,
                         .n_group = 1,
                         .topk_group = 1,
                         .routed_scale = 1.0f,
                         .eps = 1e-6f,
                         .rope = {.theta = 10000.0f, .interleaved = true},
                         .max_positions = 256,
                         .init_std = 0.2f,
                         .bos = -1,
                         .eos = -1,
                         .mtp_layers = 2,
                         .mtp = 2};
}

/* The same modules on blocks that are quickly computed by hand: multi-query attention and a dense FFN. */
static ModelConfig plain(void)
{
    ModelConfig c = v3();
    c.arch = ARCH_GLM4_MOE, c.attention = ATTENTION_GQA, c.Hkv = 1, c.Rq = c.Rkv = c.Dn = 0, c.Dr = c.Dv = 8;
    c.E = 0, c.rope.interleaved = false;
    return c;
}

typedef struct Setup {
    Machine machine;
    Policy *policy;
    BatchBuilder batch;
} Setup;

static Setup setup(ModelConfig config, int threads, int chunk, size_t keep, DType dtype)
{
    Setup s = {0};
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = threads, o.chunk = chunk, o.dtype = dtype;
    if (!config_validate(&config, &st) || !machine_open(&s.machine, &o, &st)) fail_msg("%s", st.text);
    s.policy = policy_new(machine_engine(&s.machine), &config, 7, NULL);
    s.policy->engine.keep_bytes = keep;
    policy_train_open(s.policy);
    return s;
}

static void close_setup(Setup *s)
{
    batch_free(&s->batch);
    policy_free(s->policy);
    machine_close(&s->machine);
}

/* Sequences of which some are too short for a module or two, some with a prompt that is not predicted. */
static void fill(BatchBuilder *b)
{
    static const struct {
        int length, first;
    } list[] = {{2, 1}, {17, 1}, {3, 1}, {1, 1}, {30, 9}, {4, 3}, {5, 5}, {23, 1}};
    batch_reset(b);
    for (size_t s = 0; s < sizeof list / sizeof *list; s++) {
        int32_t ids[LONGEST];
        Rng r = rng_stream(9, RNG_DATA, 1, (uint64_t)s);
        for (int i = 0; i < list[s].length; i++) ids[i] = (int32_t)rng_below(&r, VOCAB);
        batch_add(b, ids, list[s].length, list[s].first);
    }
}

static TrainOut gradients(Setup *s, float lambda, const BalanceConfig *balance)
{
    float weight[512];
    nll_weights_mean(weight, s->batch.targets, s->batch.m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(&s->batch),
                      .predict = batch_predictions(&s->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .balance = balance,
                      .mtp = lambda};
    TrainOut out;
    train_gradients(&s->policy->engine, &s->policy->w, &s->policy->g, &task, &out);
    return out;
}

static double total(const TrainOut *o)
{
    return o->loss + o->aux + o->mtp.loss + o->mtp.aux;
}

/* ---- The reference, in double: one sequence, one module ---- */

static void normed(double *y, const double *x, const float *w, int C)
{
    double sum = 0;
    for (int i = 0; i < C; i++) sum += x[i] * x[i];
    for (int i = 0; i < C; i++) y[i] = w[i] * x[i] / sqrt(sum / C + 1e-6);
}

static void times(double *y, Mat w, const double *x)
{
    for (size_t o = 0; o < w.rows; o++) {
        y[o] = 0;
        for (size_t i = 0; i < w.cols; i++) y[o] += (double)mat_row(w, o)[i] * x[i];
    }
}

static void turn(double *x, int D, int pos)
{
    for (int i = 0; i < D / 2; i++) {
        double t = pos * pow(10000.0, -2.0 * i / D), a = x[i], b = x[i + D / 2];
        x[i] = a * cos(t) - b * sin(t);
        x[i + D / 2] = a * sin(t) + b * cos(t);
    }
}

/* TRM_k of rows x [n][C], in place: multi-query attention, then a SwiGLU. */
static void block(const ModelConfig *c, const LayerWeights *w, double x[][32], int n)
{
    int C = c->C, H = c->H, D = c->Dr;
    static double qkv[LONGEST][64];
    for (int t = 0; t < n; t++) {
        double y[32];
        normed(y, x[t], w->attn_norm, C);
        times(qkv[t], w->in, y);
        for (int h = 0; h <= H; h++) turn(qkv[t] + h * D, D, t); /* the key follows the queries */
    }
    for (int t = n - 1; t >= 0; t--) {
        double o[32], y[32], gu[96], a[48], p[LONGEST];
        for (int h = 0; h < H; h++) {
            double sum = 0;
            for (int j = 0; j <= t; j++) {
                double score = 0;
                for (int i = 0; i < D; i++) score += qkv[t][h * D + i] * qkv[j][H * D + i];
                sum += p[j] = exp(score / sqrt(D));
            }
            for (int i = 0; i < D; i++) {
                o[h * D + i] = 0;
                for (int j = 0; j <= t; j++) o[h * D + i] += p[j] / sum * qkv[j][(H + 1) * D + i];
            }
        }
        times(y, w->o, o);
        for (int i = 0; i < C; i++) x[t][i] += y[i];
        normed(y, x[t], w->ffn_norm, C);
        times(gu, w->gate_up, y);
        for (int i = 0; i < c->F; i++) a[i] = gu[i] / (1 + exp(-gu[i])) * gu[c->F + i];
        times(y, w->down, a);
        for (int i = 0; i < C; i++) x[t][i] += y[i];
    }
}

static double cross_entropy(const Weights *w, const double *h, int target)
{
    double logits[VOCAB], sum = 0;
    times(logits, w->head, h);
    for (int i = 0; i < VOCAB; i++) sum += exp(logits[i]);
    return log(sum) - logits[target];
}

/* -log-probs of depth k = 1, 2 over the predicted tokens of a batch: their sums and numbers. */
static void reference(Setup *s, const float *xn, double sum[2], int count[2])
{
    const ModelConfig *c = &s->policy->config;
    const BatchBuilder *b = &s->batch;
    const Weights *w = &s->policy->w;
    for (int q = 0; q < b->nseq; q++) {
        int first = b->offsets[q], T = b->offsets[q + 1] - first;
        static double h[LONGEST][32], x[LONGEST][32];
        for (int t = 0; t < T; t++)
            for (int i = 0; i < c->C; i++) h[t][i] = xn[(first + t) * c->C + i];
        for (int k = 1; k <= 2; k++) {
            const LayerWeights *m = &w->layers[c->L + k - 1];
            int n = T - k; /* one more than has a target: no other row sees it */
            for (int t = 0; t < n; t++) {
                double both[64], emb[32];
                for (int i = 0; i < c->C; i++) emb[i] = mat_row(w->embed, (size_t)b->ids[first + t + k])[i];
                normed(both, emb, m->enorm, c->C);
                normed(both + c->C, h[t], m->hnorm, c->C);
                times(x[t], m->eh_proj, both);
            }
            block(c, m, x, n);
            for (int t = 0; t < n; t++) normed(h[t], x[t], m->mtp_norm, c->C);
            for (int i = 0; i < b->m; i++) {
                int at = b->rows[i] - first - k; /* whose token k + 1 ahead is the i-th target */
                if (at < 0 || b->rows[i] >= first + T || b->rows[i] < first) continue;
                sum[k - 1] += cross_entropy(w, h[at], b->targets[i]);
                count[k - 1]++;
            }
        }
    }
}

static void against_reference(void **state)
{
    (void)state;
    Setup s = setup(plain(), 1, 4096, (size_t)1 << 30, DTYPE_F32);
    fill(&s.batch);
    float *norm = s.policy->w.layers[2].enorm; /* norms that are told apart */
    for (int i = 0; i < s.policy->config.C; i++) norm[i] = 0.5f + 0.1f * (float)i;
    policy_weights_changed(s.policy);
    TrainOut out = gradients(&s, 0.3f, NULL);
    double got[2] = {out.mtp.depth[0], out.mtp.depth[1]}, weighted = out.mtp.loss;
    Tape tape;
    Predictions p = batch_predictions(&s.batch);
    float lp[512];
    HeadOut head = {.lp = lp};
    train_forward(&s.policy->engine, &s.policy->w, batch_view(&s.batch), &p, 1.0f, TAPE_NONE, &tape, &head);
    double sum[2] = {0};
    int count[2] = {0};
    reference(&s, tape.xn, sum, count);
    /* 30 - 9 + 22 + 16 + ... predicted tokens, fewer by those too near to the start */
    assert_true(count[0] > count[1] && count[1] > 50);
    for (int k = 0; k < 2; k++)
        if (!(fabs(got[k] - sum[k] / count[k]) < 2e-6 * got[k]))
            fail_msg("depth %d: %.9g, in double %.9g", k + 1, got[k], sum[k] / count[k]);
    assert_true(fabs(weighted - 0.15 * (got[0] + got[1])) < 1e-6);
    close_setup(&s);
}

/* ---- Gradients ---- */

static void differences(void **state)
{
    (void)state;
    ModelConfig configs[] = {v3(), plain()};
    const BalanceConfig balance = {.sequence = 0.3f, .devices = 1, .limit = 1};
    for (int k = 0; k < 2; k++) {
        Setup s = setup(configs[k], 1, 4096, (size_t)1 << 30, DTYPE_F32);
        const ParamTable *t = &s.policy->engine.table;
        const BalanceConfig *b = configs[k].E ? &balance : NULL;
        fill(&s.batch);
        gradients(&s, 0.7f, b);
        float *g = malloc(t->total * sizeof *g);
        assert_non_null(g);
        memcpy(g, s.policy->grads, t->total * sizeof *g);
        int seen = 0;
        for (int i = 0; i < t->n; i++) {
            const Param *p = &t->params[i];
            if (!p->trained || p->expert > 0) continue;
            size_t at = p->offset; /* the coordinate with the largest gradient is measured best */
            for (size_t j = 0; j < p->count; j++)
                if (fabsf(g[p->offset + j]) > fabsf(g[at])) at = p->offset + j;
            float *w = &s.policy->weights.plain[at], before = *w, h = 2e-3f * fmaxf(fabsf(before), 0.3f);
            double value[2];
            for (int side = 0; side < 2; side++) {
                *w = side ? before + h : before - h;
                policy_weights_changed(s.policy);
                TrainOut out = gradients(&s, 0.7f, b);
                value[side] = total(&out);
            }
            float width = (before + h) - (before - h);
            *w = before;
            double slope = (value[1] - value[0]) / width;
            if (!(fabs(slope - g[at]) <= TOL_DIFFERENCES * fmax(fabs(g[at]), 1e-3)))
                fail_msg("%s[%zu]: gradient %.6g, differences %.6g", p->name, at - p->offset, g[at], slope);
            seen += p->layer >= 2;
        }
        assert_true(seen > 20);
        free(g);
        close_setup(&s);
    }
}

/* Threads, head chunks and recomputed layers change no bit. */
static void invariance(void **state)
{
    (void)state;
    for (int dtype = 0; dtype < 2; dtype++) {
        const BalanceConfig balance = {.sequence = 0.3f, .devices = 1, .limit = 1};
        Setup a = setup(v3(), 1, 4096, (size_t)1 << 30, (DType)dtype), b = setup(v3(), 2, 64, 0, (DType)dtype);
        fill(&a.batch), fill(&b.batch);
        TrainOut x = gradients(&a, 0.3f, &balance), y = gradients(&b, 0.3f, &balance);
        assert_true(total(&x) == total(&y) && x.mtp.loss > 0 && x.mtp.aux > 0);
        assert_memory_equal(a.policy->grads, b.policy->grads, a.policy->engine.table.total * sizeof(float));
        close_setup(&a), close_setup(&b);
    }
}

/* Steps without the loss are those of a model without modules, whose weights stay as they are, decay or not; with it, modules and
 * their router biases move. */
static void modules_left_alone(void **state)
{
    (void)state;
    ModelConfig without = v3();
    without.mtp = without.mtp_layers = 0;
    const OptimizerConfig adam = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 1.0f};
    Setup a = setup(v3(), 1, 4096, (size_t)1 << 30, DTYPE_F32), b = setup(without, 1, 4096, (size_t)1 << 30, DTYPE_F32);
    Setup *both[] = {&a, &b};
    Status st = {0};
    double norm;
    const ParamTable *t = &a.policy->engine.table, *u = &b.policy->engine.table;
    float *initial = malloc(t->total * sizeof *initial);
    assert_non_null(initial);
    memcpy(initial, a.policy->weights.plain, t->total * sizeof *initial);
    for (int i = 0; i < 2; i++) {
        fill(&both[i]->batch);
        for (int step = 0; step < 3; step++) {
            TrainOut out = gradients(both[i], 0.0f, NULL);
            assert_true(policy_update(both[i]->policy, &adam, 1e-2f, &norm, &st));
            policy_bias_update(both[i]->policy, out.routing, 0.01f);
        }
    }
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        int k = params_find_name(u, p->name);
        const float *want = p->layer >= 2 ? initial + p->offset : b.policy->weights.plain + u->params[k].offset;
        if (memcmp(a.policy->weights.plain + p->offset, want, p->count * sizeof *want)) fail_msg("%s differs", p->name);
    }
    for (int step = 0; step < 3; step++) {
        TrainOut out = gradients(&a, 0.3f, NULL);
        assert_true(policy_update(a.policy, &adam, 1e-2f, &norm, &st));
        policy_bias_update(a.policy, out.routing, 0.01f);
    }
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (p->expert < 0 &&
            !memcmp(a.policy->weights.plain + p->offset, initial + p->offset, p->count * sizeof *initial))
            fail_msg("%s did not move", p->name);
    }
    free(initial);
    close_setup(&a), close_setup(&b);
}

/* Both depths learn a batch by heart. */
static void overfit(void **state)
{
    (void)state;
    const OptimizerConfig adam = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1.0f};
    for (int dtype = 0; dtype < 2; dtype++) {
        Setup s = setup(v3(), 1, 4096, (size_t)1 << 30, (DType)dtype);
        fill(&s.batch);
        MtpOut first = {0}, last = {0};
        for (int step = 0; step < 150; step++) {
            Status st = {0};
            double norm;
            last = gradients(&s, 1.0f, NULL).mtp;
            if (!step) first = last;
            assert_true(policy_update(s.policy, &adam, 1e-2f, &norm, &st));
        }
        for (int k = 0; k < 2; k++)
            if (!(first.depth[k] > 3 && last.depth[k] < 0.3))
                fail_msg("depth %d: %.3f -> %.3f", k + 1, first.depth[k], last.depth[k]);
        close_setup(&s);
    }
}

/* ---- Drafts ---- */

enum { PROMPTS = 4, SAMPLES = 3, MAX_TOKENS = 80 };

static RolloutStats sample(Setup *s, int draft, int slots, CacheKind cache, SampleArgs args, Completion *out)
{
    static const int lengths[PROMPTS] = {1, 5, 64, 66};
    static const int32_t stop = 3;
    static int32_t ids[PROMPTS][70];
    RolloutPrompt prompts[PROMPTS];
    for (int i = 0; i < PROMPTS; i++) {
        for (int j = 0; j < lengths[i]; j++) ids[i][j] = (int32_t)((5 * i + 7 * j) % VOCAB);
        prompts[i] = (RolloutPrompt){ids[i], lengths[i], (uint32_t)(10 + i)};
    }
    RolloutSpec spec = {.slots = slots,
                        .samples = SAMPLES,
                        .max_tokens = MAX_TOKENS,
                        .draft = draft,
                        .cache = cache,
                        .sampling = args,
                        .stops = &stop,
                        .n_stops = 1,
                        .seed = 5,
                        .purpose = RNG_ROLLOUT};
    RolloutStats stats;
    Status st = {0};
    if (!rollout_run(s->policy->sampler, &s->policy->w, &spec, prompts, PROMPTS, out, &stats, &st))
        fail_msg("%s", st.text);
    return stats;
}

/* With guesses every token and log-prob is what it is without, in fewer steps; wrong guesses too. */
static void drafts(void **state)
{
    (void)state;
    static const SampleArgs kinds[] = {
        {.temperature = 1.0f, .top_p = 1.0f}, {.top_p = 1.0f}, {.temperature = 0.7f, .top_p = 0.9f, .top_k = 9}};
    const OptimizerConfig adam = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1.0f};
    for (int k = 0; k < 3; k++) {
        Setup s = setup(k == 1 ? plain() : v3(), 1, 4096, (size_t)1 << 30, k == 2 ? DTYPE_BF16 : DTYPE_F32);
        fill(&s.batch);
        for (int step = 0; step < 25; step++) { /* enough for guesses that sometimes hold */
            Status st = {0};
            double norm;
            gradients(&s, 1.0f, NULL);
            assert_true(policy_update(s.policy, &adam, 1e-2f, &norm, &st));
        }
        for (int i = 0; i < 6; i++) {
            CacheKind cache = i % 2 && k != 1 ? CACHE_LATENT : CACHE_EXACT;
            Completion out[PROMPTS * SAMPLES];
            int32_t *ids = malloc(sizeof *ids * PROMPTS * SAMPLES * MAX_TOKENS);
            float *lp = malloc(sizeof *lp * PROMPTS * SAMPLES * MAX_TOKENS);
            int n[PROMPTS * SAMPLES];
            assert_true(ids && lp);
            RolloutStats plainly = sample(&s, 0, 5, cache, kinds[i / 2], out);
            for (int c = 0; c < PROMPTS * SAMPLES; c++) {
                n[c] = out[c].n;
                memcpy(ids + c * MAX_TOKENS, out[c].ids, (size_t)n[c] * sizeof *ids);
                memcpy(lp + c * MAX_TOKENS, out[c].logprobs, (size_t)n[c] * sizeof *lp);
            }
            int draft = 1 + (i + k) % 4;
            RolloutStats drafted = sample(&s, draft, i < 3 ? 5 : 2, cache, kinds[i / 2], out);
            for (int c = 0; c < PROMPTS * SAMPLES; c++)
                if (out[c].n != n[c] || memcmp(ids + c * MAX_TOKENS, out[c].ids, (size_t)n[c] * sizeof *ids) ||
                    memcmp(lp + c * MAX_TOKENS, out[c].logprobs, (size_t)n[c] * sizeof *lp))
                    fail_msg("model %d, case %d: completion %d differs with %d guesses", k, i, c, draft);
            assert_true(drafted.tokens == plainly.tokens && drafted.drafted > drafted.accepted);
            if (!(drafted.accepted > 0 && (i >= 3 || drafted.steps < plainly.steps)))
                fail_msg("%ld of %ld guesses right, %ld steps, %ld without", drafted.accepted, drafted.drafted,
                         drafted.steps, plainly.steps);
            free(ids), free(lp);
        }
        close_setup(&s);
    }
    ModelConfig without = v3();
    without.mtp = without.mtp_layers = 0;
    Setup s = setup(without, 1, 4096, 0, DTYPE_F32);
    RolloutSpec spec = {.slots = 1, .samples = 1, .max_tokens = 2, .draft = 1, .sampling = kinds[0]};
    int32_t one = 1;
    RolloutPrompt prompt = {&one, 1, 0};
    Completion out;
    Status st = {0};
    assert_false(rollout_run(s.policy->sampler, &s.policy->w, &spec, &prompt, 1, &out, NULL, &st));
    assert_true(says(&st, "num_nextn_predict_layers"));
    close_setup(&s);
}

/* ---- Files ---- */

/* Out under the published names with the copies of embedding and head, and in again as parameters; where a copy is another's,
 * and in checkpoints of old, they are carried along. */
static void files(void **state)
{
    (void)state;
    Setup s = setup(v3(), 1, 4096, (size_t)1 << 30, DTYPE_F32);
    const ParamTable *t = &s.policy->engine.table;
    Status st = {0};
    if (!hf_write(scratch_path("out"), &s.policy->config, t, block_source(s.policy->weights.plain), ST_F32, 0, NULL,
                  NULL, &st))
        fail_msg("%s", st.text);
    static const char *const names[] = {"embed_tokens",
                                        "enorm",
                                        "hnorm",
                                        "eh_proj",
                                        "shared_head.norm",
                                        "shared_head.head",
                                        "input_layernorm",
                                        "self_attn.kv_b_proj",
                                        "mlp.experts.3.down_proj"};
    StFile *f = st_open(scratch_path("out"), &st);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (int k = 2; k < 4; k++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.%s.weight", k, names[i]);
            if (!st_find(f, name)) fail_msg("%s is not in the file", name);
        }
    st_close(f);
    LoadedModel *m = model_open(scratch_path("out"), MODEL_WEIGHTS | MODEL_ATTACHMENTS, &st);
    if (!m) fail_msg("%s", st.text);
    assert_true(m->config.mtp == 2 && m->table.n == t->n && m->attached.ntensors == 0);
    assert_memory_equal(m->weights, s.policy->weights.plain, t->total * sizeof(float));
    CheckpointMeta meta = {0};
    assert_true(checkpoint_save(scratch_path("m.h5"), &m->config, &m->table, m->weights, NULL, NULL, NULL, &meta, &st));
    model_close(m);
    m = model_open(scratch_path("m.h5"), MODEL_WEIGHTS, &st);
    if (!m) fail_msg("%s", st.text);
    assert_true(m->config.mtp == 2 && !memcmp(m->weights, s.policy->weights.plain, t->total * sizeof(float)));
    model_close(m);
    /* One copy with another number in it: the last tensor's bytes end the file. */
    size_t n;
    char *bytes = scratch_read(scratch_path("out/model.safetensors"), &n);
    f = st_open(scratch_path("out"), &st);
    const char *copy = st_find(f, "model.layers.3.shared_head.head.weight")->data, *end = copy;
    for (size_t i = 0; i < st_count(f); i++) {
        const char *stop = (const char *)st_at(f, i)->data + st_at(f, i)->bytes;
        if (stop > end) end = stop;
    }
    bytes[n - (size_t)(end - copy)] ^= 1;
    st_close(f);
    scratch_put("out/model.safetensors", bytes, n);
    free(bytes);
    m = model_open(scratch_path("out"), MODEL_WEIGHTS | MODEL_ATTACHMENTS, &st);
    if (!m) fail_msg("%s", st.text);
    assert_true(m->config.mtp == 0 && m->config.mtp_layers == 2 && m->attached.ntensors > 40);
    model_close(m);
    close_setup(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_reference),
        cmocka_unit_test(differences),
        cmocka_unit_test(invariance),
        cmocka_unit_test(modules_left_alone),
        cmocka_unit_test(overfit),
        cmocka_unit_test(drafts),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
