/* Where weights rest changes no bit: log-probs and gradients of golden models, computed with every part in the memory of the
 * policy, against the same with parts that are brought to a slot for as long as core says that it needs them. A slot holds NaN
 * otherwise and no view points to it, so a place in core that forgot its `need` crashes or shows. */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/philox.h"
#include "core/train.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

/* A keeper over a copy of the weights. */
typedef struct Shelf {
    Keeper keeper;
    const ParamTable *t;
    Weights w;
    Form form;
    char **home;         /* [parts] the part's parameters one after another, in form */
    char **slots;        /* [n] */
    int n, *slot;        /* [parts] -1: not there */
    bool *rows;          /* [parts] experts with rows */
    int held, most_held; /* experts */
    long needs, sweeps, routed;
} Shelf;

static Shelf *shelf_of(Keeper *k)
{
    return (Shelf *)(void *)k;
}

static size_t part_bytes(const ParamTable *t, int part, Form form)
{
    size_t bytes = 0;
    for (int i = 0; i < t->parts[part].n; i++) bytes += param_bytes(&t->params[t->parts[part].first + i], form);
    return bytes;
}

static void place_at(Shelf *s, int part, char *base)
{
    const Part *p = &s->t->parts[part];
    void *at[64];
    CHECK(p->n <= 64);
    for (int i = 0; i < p->n; i++) {
        at[i] = base;
        if (base) base += param_bytes(&s->t->params[p->first + i], s->form);
    }
    weights_place(&s->w, s->t, part, s->form, at, true);
}

static void shelf_sweep(Keeper *k, Sweep kind)
{
    (void)kind;
    shelf_of(k)->sweeps++;
}

static void shelf_routed(Keeper *k, int layer, const int32_t *offsets)
{
    Shelf *s = shelf_of(k);
    int trunk = params_part(s->t, layer, -1);
    s->routed++;
    for (int p = trunk + 1; s->t->parts[p].layer == layer; p++)
        s->rows[p] = offsets[p - trunk] > offsets[p - trunk - 1];
}

static void shelf_need(Keeper *k, int part, int n)
{
    Shelf *s = shelf_of(k);
    for (int p = part; p < part + n; p++) {
        bool expert = s->t->parts[p].expert >= 0;
        if (s->slot[p] >= 0 || (expert && !s->rows[p])) continue;
        int free_slot = 0;
        while (free_slot < s->n && s->slots[free_slot][0] != (char)0xff) free_slot++;
        CHECK(free_slot < s->n);
        s->slot[p] = free_slot;
        memcpy(s->slots[free_slot] + 64, s->home[p], part_bytes(s->t, p, s->form));
        s->slots[free_slot][0] = 0;
        place_at(s, p, s->slots[free_slot] + 64);
        s->needs++;
        if (expert && ++s->held > s->most_held) s->most_held = s->held;
    }
}

static void shelf_done(Keeper *k, int part, int n)
{
    Shelf *s = shelf_of(k);
    for (int p = part; p < part + n; p++) {
        if (s->slot[p] < 0) continue;
        memset(s->slots[s->slot[p]], 0xff, 64 + part_bytes(s->t, p, s->form));
        place_at(s, p, NULL);
        s->slot[p] = -1;
        if (s->t->parts[p].expert >= 0) s->held--;
    }
}

static bool shelf_fault(Keeper *k, Status *st)
{
    (void)k, (void)st;
    return true;
}

static char *copied_part(const ParamTable *t, int part, Form form, const WeightBlock *block)
{
    char *home = malloc(part_bytes(t, part, form)), *at = home;
    assert_non_null(home);
    for (int i = 0; i < t->parts[part].n; i++) {
        const Param *p = &t->params[t->parts[part].first + i];
        memcpy(at, weight_at(block, p, p->offset), param_bytes(p, form));
        at += param_bytes(p, form);
    }
    return home;
}

static Shelf shelf_open(const Policy *p, Form form, int slots, int most)
{
    const ParamTable *t = &p->engine.table;
    Shelf s = {.keeper = {shelf_sweep, shelf_routed, shelf_need, shelf_done, shelf_fault, most}, .t = t, .form = form};
    size_t largest = 0, parts = (size_t)t->n_parts;
    s.w = weights_new(&p->config, t);
    s.home = calloc(parts, sizeof *s.home);
    s.slot = calloc(parts, sizeof *s.slot);
    s.rows = calloc(parts, sizeof *s.rows);
    s.slots = calloc((size_t)slots, sizeof *s.slots);
    assert_true(s.home && s.slot && s.rows && s.slots);
    for (int i = 0; i < t->n_parts; i++) {
        s.home[i] = copied_part(t, i, form, &p->weights);
        s.slot[i] = -1;
        place_at(&s, i, NULL);
        if (part_bytes(t, i, form) > largest) largest = part_bytes(t, i, form);
    }
    for (s.n = 0; s.n < slots; s.n++) {
        s.slots[s.n] = malloc(largest + 64);
        assert_non_null(s.slots[s.n]);
        memset(s.slots[s.n], 0xff, largest + 64);
    }
    return s;
}

static void shelf_close(Shelf *s)
{
    for (int i = 0; i < s->t->n_parts; i++) free(s->home[i]);
    for (int i = 0; i < s->n; i++) free(s->slots[i]);
    free(s->home), free(s->slot), free(s->rows), free(s->slots);
    weights_free(&s->w);
}

/* Log-probs, then the gradient block, of one training step. */
static float *step_values(Golden *g, const Weights *w, size_t keep, size_t *count)
{
    const BalanceConfig balance = {.expert = 0.01f, .devices = 1, .limit = 1};
    Policy *p = g->policy;
    size_t m = (size_t)g->batch.m, total = p->engine.table.total;
    NllLoss nll = {g->weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(&g->batch),
                      .predict = batch_predictions(&g->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .balance = &balance,
                      .entropy = true};
    TrainOut out;
    p->engine.keep_bytes = keep;
    policy_train_open(p);
    train_gradients(&p->engine, w, &p->g, &task, &out);
    *count = 2 * m + total;
    float *values = malloc(*count * sizeof *values);
    assert_non_null(values);
    memcpy(values, out.rows.lp, m * sizeof *values);
    memcpy(values + m, out.rows.entropy, m * sizeof *values);
    memcpy(values + 2 * m, p->grads, total * sizeof *values);
    return values;
}

static void parts_cover(const ParamTable *t)
{
    int next = 0;
    for (int i = 0; i < t->n_parts; i++) {
        const Part *p = &t->parts[i];
        assert_int_equal(p->first, next);
        assert_int_equal(params_part(t, p->layer, p->expert), i);
        next += p->n;
    }
    assert_int_equal(next, t->n);
}

static void check_plans(const char *model, DType dtype)
{
    Golden g;
    golden_open_as(&g, model, model, dtype, NULL);
    Form form = dtype == DTYPE_F32 ? FORM_F32 : FORM_BF16;
    Rng r = rng_stream(11, RNG_DATA, 0, dtype);
    int E = g.policy->config.E;
    parts_cover(&g.policy->engine.table);
    for (int plan = 0; plan < 10; plan++) {
        size_t n, again, keep = plan % 2 ? 0 : (size_t)1 << 30;
        int most = 1 + (int)rng_below(&r, 8), room = (most < E ? most : E) + 2;
        float *want = step_values(&g, &g.policy->w, keep, &n);
        Shelf s = shelf_open(g.policy, form, room + (int)rng_below(&r, 3), most);
        weights_keep(&s.w, &s.keeper);
        float *got = step_values(&g, &s.w, keep, &again);
        assert_int_equal(n, again);
        assert_memory_equal(got, want, n * sizeof *got);
        assert_true(s.most_held > 0 && s.most_held <= most);
        assert_int_equal(s.sweeps, 1);
        assert_true(s.needs > 2 * g.policy->config.L);
        for (int i = 0; i < s.t->n_parts; i++) assert_int_equal(s.slot[i], -1);
        shelf_close(&s);
        free(got), free(want);
    }
    golden_close(&g);
}

static void plans_v2_lite_f32(void **state)
{
    (void)state;
    check_plans("v2_lite", DTYPE_F32);
}

static void plans_v2_lite_bf16(void **state)
{
    (void)state;
    check_plans("v2_lite", DTYPE_BF16);
}

static void plans_v3_f32(void **state)
{
    (void)state;
    check_plans("v3", DTYPE_F32);
}

static void plans_v3_bf16(void **state)
{
    (void)state;
    check_plans("v3", DTYPE_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plans_v2_lite_f32),
        cmocka_unit_test(plans_v2_lite_bf16),
        cmocka_unit_test(plans_v3_f32),
        cmocka_unit_test(plans_v3_bf16),
    };
    return cmocka_run_group_tests_name("placement", tests, NULL, NULL);
}
