/* Training rows: forward, backward and AdamW on one batch of equal sequences; and AdamW alone. */
#include <stdlib.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "recipes/bench/bench.h"
#include "recipes/plan/plan.h"

static const OptimizerConfig adamw_of_bench = {
    .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 1.0f};

typedef struct Train {
    const Machine *machine;
    Policy *policy;
    BatchBuilder batch;
    float *weight;
    BenchWork work;
} Train;

static void *train_open(Bench *b, const BenchCase *c, Status *st)
{
    Policy *p = bench_policy(b, c, 4, (size_t)c->sequences * (size_t)c->length << 16, st);
    if (!p) return NULL;
    Train *t = calloc(1, sizeof *t);
    CHECK(t != NULL);
    t->machine = &b->machine;
    t->policy = p;
    policy_train_open(p);
    double flops = 6 * bench_active(p) * c->length + 3 * bench_attention_flops(&p->config, 1, c->length);
    int sequences = bench_sequences(b, c, flops, 1);
    size_t n = (size_t)sequences * (size_t)c->length;
    int32_t *ids = bench_tokens(&p->config, n, 7);
    for (int s = 0; s < sequences; s++) batch_add(&t->batch, ids + (size_t)s * (size_t)c->length, c->length, 1);
    free(ids);
    t->weight = malloc((size_t)t->batch.m * sizeof *t->weight);
    CHECK(t->weight != NULL);
    nll_weights_mean(t->weight, t->batch.targets, t->batch.m);
    t->work.tokens = (double)n;
    t->work.flops = sequences * flops;
    return t;
}

static bool train_on(Train *t, BatchBuilder *batch, Status *st)
{
    Policy *p = t->policy;
    NllLoss nll = {t->weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {
        .batch = batch_view(batch), .predict = batch_predictions(batch), .inv_temperature = 1, .loss = &loss};
    TrainOut result;
    train_gradients(&p->engine, &p->w, &p->g, &task, &result);
    return policy_update(p, &adamw_of_bench, 1e-4f, NULL, st);
}

/* Memory that a step of this batch will work in, met by all threads: finding and clearing pages is not what is measured. */
static void touch_workspace(Train *t)
{
    Engine *e = &t->policy->engine;
    Batch all = batch_view(&t->batch);
    PlanWork work = {.config = &t->policy->config,
                     .trains = true,
                     .sequences = all.nseq,
                     .length = all.offsets[1],
                     .predicted = all.offsets[1] - 1};
    Plan plan;
    Status ignored = {0}; /* it counts the weights twice, for the model is there already; the parts are right */
    plan_make(&plan, t->machine, &work, e->keep_bytes, "the row", &ignored);
    size_t floats = (plan.boundaries + plan.kept + plan.workspace) / sizeof(float);
    EngineMark mark = engine_mark(e);
    e->ops->fill(e->backend, arena_floats(&e->arena, floats), floats, 0.0f);
    engine_release(e, mark);
}

/* One short sequence. */
static bool train_warm(void *self, Status *st)
{
    enum { WARM_TOKENS = 128 };
    Train *t = self;
    Batch all = batch_view(&t->batch);
    int n = all.offsets[1] < WARM_TOKENS ? all.offsets[1] : WARM_TOKENS;
    BatchBuilder few = {0};
    batch_add(&few, all.ids, n, 1);
    bool ok = train_on(t, &few, st);
    batch_free(&few);
    touch_workspace(t);
    return ok;
}

static bool train_run(void *self, BenchWork *out, Status *st)
{
    Train *t = self;
    *out = t->work;
    return train_on(t, &t->batch, st);
}

static void train_close(void *self)
{
    Train *t = self;
    policy_free(t->policy);
    batch_free(&t->batch);
    free(t->weight);
    free(t);
}

const BenchKind bench_train = {train_open, train_warm, train_run, train_close, BOUND_FLOP, true};

enum { ADAMW_PARAMETERS = 100 << 20 };

typedef struct AdamW {
    const Machine *machine;
    float *w, *m, *v, *g;
    uint16_t *low; /* behind the high plane in w; NULL: plain f32 */
} AdamW;

static void *adamw_open(Bench *b, const BenchCase *c, Status *st)
{
    AdamW *a = calloc(1, sizeof *a);
    CHECK(a != NULL);
    a->machine = &b->machine;
    float **blocks[] = {&a->w, &a->m, &a->v, &a->g};
    for (int i = 0; i < 4; i++) {
        *blocks[i] = b->machine.ops->device.alloc(b->machine.backend, (size_t)ADAMW_PARAMETERS * sizeof(float));
        if (!*blocks[i]) {
            fail(st, "adamw needs 1.7 GB of memory that is not there");
            bench_adamw.close(a);
            return NULL;
        }
        b->machine.ops->fill(b->machine.backend, *blocks[i], ADAMW_PARAMETERS, 0.01f);
    }
    if (c->dtype == DTYPE_BF16) a->low = (uint16_t *)a->w + ADAMW_PARAMETERS;
    return a;
}

static bool adamw_run(void *self, BenchWork *out, Status *st)
{
    (void)st;
    AdamW *a = self;
    AdamWArgs args = {.lr = 1e-4f,
                      .beta1 = 0.9f,
                      .beta2 = 0.95f,
                      .eps = 1e-8f,
                      .weight_decay = 0.1f,
                      .grad_scale = 1.0f,
                      .correction1 = 0.1f,
                      .correction2 = 0.05f};
    a->machine->ops->adamw(a->machine->backend, a->w, a->low, a->m, a->v, a->g, ADAMW_PARAMETERS, args);
    *out = (BenchWork){.bytes = 28.0 * ADAMW_PARAMETERS}; /* w, m, v read and written, g read */
    return true;
}

static void adamw_close(void *self)
{
    AdamW *a = self;
    float *blocks[] = {a->w, a->m, a->v, a->g};
    for (int i = 0; i < 4; i++) a->machine->ops->device.free(a->machine->backend, blocks[i]);
    free(a);
}

const BenchKind bench_adamw = {adamw_open, NULL, adamw_run, adamw_close, BOUND_COPY, false};
