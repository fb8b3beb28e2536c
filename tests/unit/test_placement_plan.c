/* The plan of a model larger than memory: its search against trying everything, its counters against the pool's. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/base/philox.h"
#include "core/train.h"
#include "recipes/model/open_model.h"
#include "recipes/plan/placement.h"
#include "recipes/cli/commands.h"
#include "tests/unit/capture.h"
#include "tests/unit/unit.h"

static PlaceModel random_model(Rng *r)
{
    PlaceModel m = {.trains = (int)rng_below(r, 2), .chunks = 1 + (int)rng_below(r, 3), .E = 8};
    m.layers = m.trains ? 1 + (int)rng_below(r, 5) : 0;
    m.fit = (PlacingPlan){.trunk = 50 + rng_below(r, 50),
                          .slot = 1 + rng_below(r, 9),
                          .staging = rng_below(r, 10),
                          .experts = 40,
                          .layers = 5};
    m.fit.budget = 100 + rng_below(r, 500);
    m.fixed = rng_below(r, 40);
    for (int i = 0; i < m.layers; i++) m.interior[i] = rng_below(r, 40);
    for (int c = 0; c < m.chunks; c++) {
        m.chunk[c] = 4096 >> c;
        m.arena_none[c] = 60 + rng_below(r, 40) - 20 * (size_t)c;
        m.arena_all[c] = m.arena_none[c] - rng_below(r, 10);
        for (int i = 0; i < m.layers; i++) m.arena_all[c] += m.interior[i];
    }
    m.trunk_all = 1 + rng_below(r, 20), m.experts_all = 1 + rng_below(r, 20);
    m.trunk_none = m.trunk_all * 1.4, m.experts_none = m.experts_all * 1.4;
    m.slab = 0.05 * rng_below(r, 20);
    m.busy = 4 + rng_below(r, 4);
    if (rng_below(r, 2)) m.sampling = (PlaceSampling){8, rng_below(r, 9), 1 + rng_below(r, 7), 0.1 * rng_below(r, 9)};
    return m;
}

/* Seconds of a plan by its definition, every layer for itself. */
static double by_hand(const PlaceModel *m, int kept, int pinned, int slots)
{
    double again = m->layers ? (double)(m->layers - kept) / m->layers : 0, seconds = 0;
    double trunk = m->trunk_all * (1 + 0.4 * again), experts = m->experts_all * (1 + 0.4 * again);
    for (int way = 0; way < (m->trains ? 2 : 1); way++)
        for (int l = 0; l < m->fit.layers; l++) {
            double share = m->trains ? (way ? 2.0 / 3 : 1.0 / 3) : 1, t = share * trunk / m->fit.layers;
            double reads = (m->fit.experts - pinned) * m->busy / m->E / m->fit.layers * m->slab;
            double idle = t - slots * m->slab;
            seconds += fmax(reads + fmax(idle, 0), t + share * experts / m->fit.layers);
        }
    for (int i = 0; i < (int)m->sampling.steps; i++) /* the ring is empty when a layer's experts are known */
        seconds += m->sampling.compute + (m->fit.experts - pinned) * m->sampling.busy / m->E * m->slab;
    return seconds;
}

/* Over every number of kept layers, chunk and number of experts in memory; the ring is of the size that its rule says. */
static double smallest(const PlaceModel *m)
{
    double best = INFINITY;
    for (int c = 0; c < m->chunks; c++)
        for (int kept = 0; kept <= m->layers; kept++) {
            PlacingPlan rule;
            size_t arena = m->arena_none[c];
            placement_seconds(m, kept, c, &rule);
            for (int i = 0; i < kept; i++) arena += m->interior[i];
            if (m->layers && kept == m->layers) arena = m->arena_all[c];
            size_t rest = m->fixed + arena + m->fit.trunk + m->fit.staging;
            for (int pinned = 0; pinned <= m->fit.experts; pinned++)
                if (rest + m->fit.slot * (size_t)(rule.slots + pinned) <= m->fit.budget)
                    best = fmin(best, by_hand(m, kept, pinned, rule.slots));
        }
    return best;
}

static void the_search_finds_the_best(void **state)
{
    (void)state;
    Rng r = rng_stream(16, RNG_DATA, 0, 4);
    int placed = 0;
    for (int i = 0; i < 3000; i++) {
        PlaceModel m = random_model(&r);
        PlacingPlan fit;
        int kept, chunk;
        bool fits = placement_search(&m, &kept, &chunk, &fit);
        double best = smallest(&m);
        assert_int_equal(fits, !isinf(best));
        if (!fits) continue;
        double found = placement_seconds(&m, kept, chunk, &fit);
        assert_true(fit.total <= fit.budget);
        if (fabs(found - best) > 1e-6 * best) fail_msg("case %d: found %.9g, best is %.9g", i, found, best);
        placed += fit.pinned < fit.experts;
    }
    assert_in_range(placed, 500, 2999);
}

/* What the plan of a pass says is what the pool then holds and reads, by the experts that had no rows. */
static void a_pass_reads_what_was_planned(void **state)
{
    (void)state;
    enum { SEQUENCES = 4, LENGTH = 48 };
    RuntimeOptions o = runtime_defaults();
    for (int k = 0; k < 3; k++) {
        Status st = {0};
        OpenModel m;
        assert_true(open_model_file(&m, "tests/golden/v2_lite", &o, &st));
        m.machine.options.chunk = placing_chunk(&m.machine);
        PlanWork work = {.config = &m.file->config, .sequences = SEQUENCES, .length = LENGTH, .predicted = LENGTH - 1};
        Reader *reader = reader_open(m.file, FORM_F32, PLACING_THREADS, &st);
        Placement *p = calloc(1, sizeof *p);
        Rates rates;
        rates_assume(&rates, &m.machine);
        assert_non_null(reader);
        assert_non_null(p);
        size_t bytes = plan_beside_weights(&m.machine, &work, &st);
        PlacingPlan sizes;
        PlacingSizes parts = {reader_source(reader), reader_memory(reader), bytes};
        assert_true(placing_fill(&sizes, &m.machine, m.file, &parts, &st));
        m.machine.memory = (bytes + sizes.trunk + sizes.staging + sizes.slot * (6 + 10 * (size_t)k)) / 99 * 100;
        assert_true(placement_make(p, &m.machine, m.file, &parts, &work, &rates, NULL, &st));
        m.policy = policy_placed(machine_engine(&m.machine), &m.file->config);
        assert_true(placing_open(&m.placing, &sizes, &m.machine, m.file, m.policy, bytes, &st));
        assert_non_null(m.placing.pool);
        assert_int_equal(p->fit.pinned, m.placing.plan.pinned);
        assert_int_equal(p->fit.slots, m.placing.plan.slots);
        assert_true(p->fit.pass.experts > 0);

        BatchBuilder b = {0};
        int32_t ids[LENGTH];
        for (int s = 0; s < SEQUENCES; s++) {
            for (int i = 0; i < LENGTH; i++) ids[i] = (s * 131 + i * 37 + i * i) % m.file->config.V;
            batch_add(&b, ids, LENGTH, 1);
        }
        Predictions predict = batch_predictions(&b);
        float *lp = malloc((size_t)b.m * sizeof *lp);
        HeadOut out = {.lp = lp};
        Tape tape;
        assert_non_null(lp);
        train_forward(&m.policy->engine, &m.policy->w, batch_view(&b), &predict, 1.0f, TAPE_NONE, &tape, &out);
        PoolCounts c = pool_counts(m.placing.pool);
        assert_int_equal(c.reads, p->fit.pass.experts); /* every expert has rows */
        assert_int_equal(c.bytes, p->fit.pass.bytes);
        assert_int_equal(c.needed, p->fit.experts);
        assert_int_equal(c.sweeps[SWEEP_FORWARD].n, 1);
        assert_true(c.sweeps[SWEEP_FORWARD].seconds > 0);
        free(lp);
        batch_free(&b);
        reader_close(reader);
        free(p);
        open_model_close(&m);
    }
}

static void far_from_the_plan_is_said(void **state)
{
    (void)state;
    char line[256];
    assert_string_equal(placement_off(line, sizeof line, "a pass", 12.4, 10, 1e9, 2e9), "");
    assert_string_equal(placement_off(line, sizeof line, "a pass", 7.6, 10, 1e9, 2e9), "");
    assert_string_equal(placement_off(line, sizeof line, "a pass", 12, 0, 1e9, 2e9), ""); /* no plan */
    assert_string_equal(placement_off(line, sizeof line, "a pass", 12.6, 10, 1e9, 2e9),
                        "a pass took 12.6 s, planned were 10; the disk gave 1.00 GB/s, planned with 2.00");
    assert_string_equal(placement_off(line, sizeof line, "a token", 7.4, 10, 0, 2e9),
                        "a token took 7.4 s, planned were 10");
}

/* A machine that is not here is called modelled, and nothing is measured for it. */
static void elsewhere_is_modelled(void **state)
{
    (void)state;
    Captured c = capture(cmd_plan, "plan deepseek-v2-lite --lora attention --as gpu=24:60TF,link=25,ram=64 --simulate");
    assert_int_equal(c.code, 0);
    assert_non_null(strstr(c.out, "modelled: --as gpu=24:60TF,link=25,ram=64; nothing was measured"));
    assert_non_null(strstr(c.out, "simulated, modelled"));
    assert_null(strstr(c.out, "measured now"));
    assert_string_equal(c.err, "");
    captured_free(&c);
    c = capture(cmd_plan, "plan deepseek-v2-lite --as gpu=24:60TF,ram=16");
    assert_true(c.code == 1 && strstr(c.err, "its weights take 31.4 GB in bf16, --as says 16.0 GB of RAM"));
    captured_free(&c);
    c = capture(cmd_plan, "plan deepseek-v2-lite --as gpu=24");
    assert_true(c.code == 1 && strstr(c.err, "--as gpu=24: expected gpu=GB:TFLOPSTF"));
    captured_free(&c);
    c = capture(cmd_plan, "plan deepseek-v2-lite --as lnk=24");
    assert_true(c.code == 1 && strstr(c.err, "did you mean 'link'?"));
    captured_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_finds_the_best),
        cmocka_unit_test(a_pass_reads_what_was_planned),
        cmocka_unit_test(far_from_the_plan_is_said),
        cmocka_unit_test(elsewhere_is_modelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
