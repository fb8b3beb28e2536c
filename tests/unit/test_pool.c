/* A model whose experts pass through a ring gives the bits of one that is in memory, reads what the closed forms of
 * docs/placement.md say, and turns a fault of the disk into one sentence. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/pool.h"
#include "checkpoints/reader.h"
#include "core/base/check.h"
#include "core/base/philox.h"
#include "tests/unit/golden.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

/* A source that hands requests on late and in a random order, and fails at one of them. */
typedef struct Late {
    PartSource source;
    PartSource *inner;
    Rng rng;
    int waiting[512], n, fails_at, asked;
    void *slots[512];
} Late;

static Late *late_of(const PartSource *s)
{
    return (Late *)(void *)s;
}

static size_t late_room(const PartSource *s, int part)
{
    return late_of(s)->inner->room(late_of(s)->inner, part);
}

static uint64_t late_bytes(const PartSource *s, int part)
{
    return late_of(s)->inner->bytes(late_of(s)->inner, part);
}

static void late_start(PartSource *s, int part, void *slot)
{
    Late *l = late_of(s);
    CHECK(l->n < 512);
    memset(slot, 0xff, 64); /* whoever reads before `ready` meets NaN */
    l->waiting[l->n] = part;
    l->slots[l->n++] = slot;
    l->asked++;
}

static bool late_ready(PartSource *s, int part, void **at, Status *st)
{
    Late *l = late_of(s);
    for (bool there = false; !there;) {
        there = true;
        for (int i = 0; i < l->n; i++) there = there && l->waiting[i] != part;
        if (there) break;
        int i = (int)rng_below(&l->rng, (uint32_t)l->n);
        l->inner->start(l->inner, l->waiting[i], l->slots[i]);
        l->n--;
        l->waiting[i] = l->waiting[l->n], l->slots[i] = l->slots[l->n];
    }
    bool ok = l->inner->ready(l->inner, part, at, st);
    return ok && (l->fails_at == 0 || l->asked < l->fails_at || fail(st, "the disk of this test broke"));
}

/* A golden model twice: in memory, and through a pool. */
typedef struct Pair {
    Golden g;
    LoadedModel *file;
    Reader *reader;
    Late late;
    Policy *placed;
    Pool *pool;
    uint8_t *pinned;
} Pair;

static void pair_open(Pair *p, const char *model, const char *folder, DType dtype, int slots, int pinned, uint32_t seed)
{
    Status st = {0};
    Form form = dtype == DTYPE_BF16 ? FORM_BF16 : FORM_F32;
    *p = (Pair){0};
    golden_open_as(&p->g, model, model, dtype, NULL);
    p->file = model_open(folder, 0, &st);
    if (!p->file || !(p->reader = reader_open(p->file, form, 2, &st))) fail_msg("%s", st.text);
    p->late = (Late){.source = {late_room, late_start, late_ready, late_bytes}, .inner = reader_source(p->reader)};
    p->late.rng = rng_stream(5, RNG_DATA, 0, seed);
    p->placed = policy_placed(machine_engine(&p->g.machine), &p->g.policy->config);
    p->pinned = calloc((size_t)p->file->table.n_parts, 1);
    assert_non_null(p->pinned);
    for (int i = 0, left = pinned; i < p->file->table.n_parts; i++) {
        if (p->file->table.parts[i].expert == 0) left = pinned;
        if (p->file->table.parts[i].expert >= 0 && left > 0 && rng_below(&p->late.rng, 2)) p->pinned[i] = 1, left--;
    }
    PoolPlan plan = {.slots = slots, .pinned = p->pinned, .strict = true};
    p->pool = pool_open(&p->file->table, &p->placed->w, form, &p->late.source, &plan, &st);
    if (!p->pool) fail_msg("%s", st.text);
}

static void pair_close(Pair *p)
{
    policy_free(p->placed);
    pool_close(p->pool);
    reader_close(p->reader);
    model_close(p->file);
    golden_close(&p->g);
    free(p->pinned);
}

static const char *folder_of(const char *model)
{
    static char path[128];
    snprintf(path, sizeof path, "tests/golden/%s", model);
    return path;
}

/* Log-probs, entropies and the gradient block of one step; routing: of it. */
static float *step_of(Pair *p, Engine *e, const Weights *w, size_t keep, size_t *count, const Routing **routing)
{
    Golden *g = &p->g;
    size_t m = (size_t)g->batch.m, total = e->table.state_total;
    NllLoss nll = {g->weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(&g->batch),
                      .predict = batch_predictions(&g->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .entropy = true};
    TrainOut out;
    e->keep_bytes = keep;
    policy_train_open(g->policy);
    train_gradients(e, w, &g->policy->g, &task, &out);
    *count = 2 * m + total;
    float *values = malloc(*count * sizeof *values);
    assert_non_null(values);
    memcpy(values, out.rows.lp, m * sizeof *values);
    memcpy(values + m, out.rows.entropy, m * sizeof *values);
    memcpy(values + 2 * m, g->policy->grads, total * sizeof *values);
    *routing = out.routing;
    return values;
}

/* Experts of a layer with rows that are not pinned. */
static long passing(const Pair *p, const Routing *r, int layer)
{
    const ParamTable *t = &p->file->table;
    long n = 0;
    for (int i = params_part(t, layer, 0), e = 0; t->parts[i].layer == layer; i++, e++)
        n += r[layer].offsets[e + 1] > r[layer].offsets[e] && !p->pinned[i];
    return n;
}

static void equal_and_counted(const char *model, DType dtype)
{
    Rng r = rng_stream(12, RNG_DATA, 0, dtype);
    for (int plan = 0; plan < 10; plan++) {
        Pair p;
        size_t n, again, keep = plan % 3 == 2 ? 0 : (size_t)1 << 30;
        int slots = 2 + (int)rng_below(&r, 6), pinned = plan % 2 ? 0 : (int)rng_below(&r, 3);
        const Routing *routing;
        pair_open(&p, model, folder_of(model), dtype, slots, pinned, (uint32_t)plan);
        float *want = step_of(&p, &p.g.policy->engine, &p.g.policy->w, keep, &n, &routing);
        float *got = step_of(&p, &p.placed->engine, &p.placed->w, keep, &again, &routing);
        Status st = {0};
        assert_true(keeper_fault(p.placed->w.keeper, &st));
        assert_int_equal(n, again);
        assert_memory_equal(got, want, n * sizeof *got);
        PoolCounts c = pool_counts(p.pool);
        long reads = 0, last = 0, most = slots / 2;
        for (int l = 0; l < p.file->config.L; l++)
            if (config_is_moe(&p.file->config, l)) reads += 2 * (last = passing(&p, routing, l));
        long kept = last < slots - most ? last : slots - most;
        if (last <= slots) kept = last;
        if (pinned == 0) assert_int_equal(c.reads - c.vain, reads - kept);
        assert_true(c.bytes > 0 && c.needed >= c.hits);
        free(want), free(got);
        pair_close(&p);
    }
}

static void v2_lite_f32(void **state)
{
    (void)state;
    equal_and_counted("v2_lite", DTYPE_F32);
}

static void v2_lite_bf16(void **state)
{
    (void)state;
    equal_and_counted("v2_lite", DTYPE_BF16);
}

static void v3_f32(void **state)
{
    (void)state;
    equal_and_counted("v3", DTYPE_F32);
}

static void v3_bf16(void **state)
{
    (void)state;
    equal_and_counted("v3", DTYPE_BF16);
}

/* A forward reads every expert with rows that is not pinned once; what was read ahead in vain is counted apart. */
static void forward_counts(void **state)
{
    (void)state;
    for (int pinned = 0; pinned < 3; pinned++) {
        Pair p;
        pair_open(&p, "v2_lite", folder_of("v2_lite"), DTYPE_F32, 4, pinned, 3);
        Engine *e = &p.placed->engine;
        Predictions predict = batch_predictions(&p.g.batch);
        float *lp = malloc((size_t)p.g.batch.m * sizeof *lp);
        assert_non_null(lp);
        Tape tape;
        HeadOut out = {.lp = lp};
        train_forward(e, &p.placed->w, batch_view(&p.g.batch), &predict, 1.0f, TAPE_HIDDEN, &tape, &out);
        PoolCounts c = pool_counts(p.pool);
        long reads = 0;
        for (int l = 0; l < p.file->config.L; l++)
            if (config_is_moe(&p.file->config, l)) reads += passing(&p, tape.routing, l);
        assert_int_equal(c.reads - c.vain, reads);
        free(lp);
        pair_close(&p);
    }
}

static void a_broken_disk(void **state)
{
    (void)state;
    Pair p;
    Status st = {0};
    size_t n;
    const Routing *routing;
    pair_open(&p, "v2_lite", folder_of("v2_lite"), DTYPE_F32, 4, 0, 1);
    p.late.fails_at = p.late.asked + 5;
    free(step_of(&p, &p.placed->engine, &p.placed->w, 0, &n, &routing));
    assert_false(keeper_fault(p.placed->w.keeper, &st));
    assert_true(says(&st, "broke"));
    pair_close(&p);
}

static void copy_model(const char *from, size_t cut)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        char path[256];
        size_t length;
        snprintf(path, sizeof path, "%s/%s", from, names[i]);
        char *bytes = scratch_read(path, &length);
        scratch_put(names[i], bytes, i ? length - cut : length);
        free(bytes);
    }
}

/* The file is cut after it was opened: experts near its end are not there any more. */
static void a_shard_cut(void **state)
{
    (void)state;
    Pair p;
    Status st = {0};
    size_t n;
    const Routing *routing;
    copy_model("tests/golden/v2_lite", 0);
    pair_open(&p, "v2_lite", scratch_folder(), DTYPE_F32, 4, 0, 1);
    assert_int_equal(truncate(scratch_path("model.safetensors"), 4096), 0);
    free(step_of(&p, &p.placed->engine, &p.placed->w, 0, &n, &routing));
    assert_false(keeper_fault(p.placed->w.keeper, &st));
    assert_true(says(&st, "model.safetensors") && says(&st, "was cut"));
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v2_lite_f32), cmocka_unit_test(v2_lite_bf16),   cmocka_unit_test(v3_f32),
        cmocka_unit_test(v3_bf16),     cmocka_unit_test(forward_counts), cmocka_unit_test(a_broken_disk),
        cmocka_unit_test(a_shard_cut),
    };
    return cmocka_run_group_tests_name("pool", tests, scratch_make, scratch_remove);
}
