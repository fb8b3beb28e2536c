/* The device is kept busy: two chunks of the head in flight and decoding one step late have the bits of one after the other, in
 * the process's memory, in memory that it may not touch and on the emulated GPU with queued work in three orders; the host waits
 * once a chunk and once a step. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/losses/grpo.h"
#include "core/policy.h"
#include "recipes/model/plugin.h"
#include "tests/unit/places.h"

enum { CHUNKS = 3, ROWS = (CHUNKS - 1) * TOKEN_BLOCK + 300, LONGEST = 70, SAMPLES = 3, PROMPTS = 6, TOKENS = 14 };

/* A policy at a place. */
typedef struct Lab {
    Place place;
    const Ops *ops;
    Backend *b;
    ModelConfig c;
    Policy *p;
} Lab;

static Lab lab_open(const Place *at, Arch arch, int layers)
{
    Status st = {0};
    Lab l = {.place = *at, .c = places_model(arch)};
    l.b = place_open(at, DTYPE_F32, &l.ops);
    l.c.L = layers;
    if (!config_validate(&l.c, &st)) fail_msg("%s", st.text);
    EngineOptions o = {l.ops, l.b, DTYPE_F32, TOKEN_BLOCK, 64 << 20};
    l.p = policy_new(o, &l.c, 7, NULL);
    return l;
}

static void lab_close(Lab *l)
{
    policy_free(l->p);
    l->ops->close(l->b);
}

/* How often the host waited for the device so far; 0 where nobody counts. */
static long waits_of(const Lab *l)
{
    return l->place.plugin ? l->place.plugin->waits(l->b) : 0;
}

/* The places against which the CPU's memory is held: far, and the emulated GPU if there is one. */
static int other_places(Place *list)
{
    static const char *const streams[] = {"eager", "lazy", "random:5"};
    Status st = {0};
    const GpuPlugin *plugin = plugin_load(DEVICE_EMULATED, &st);
    int n = 0;
    list[n++] = (Place){.far = true, .slice_rows = SIZE_MAX, .late = "yes"};
    for (size_t i = 0; plugin && i < sizeof streams / sizeof *streams; i++)
        list[n++] = (Place){.plugin = plugin, .matmul = "native", .streams = streams[i]};
    return n;
}

/* ---- Two chunks of the head in flight ---- */

/* A loss of whole outputs: it wants all log-probs before the first row is evaluated. */
typedef struct Mean {
    double lp;
} Mean;

static void mean_prepare(void *ctx, const float *lp, int n)
{
    ((Mean *)ctx)->lp = sum_in_blocks(lp, n) / n;
}

static void mean_eval(void *ctx, const LossRows *in, const LossGrads *out)
{
    for (int i = 0; i < in->n; i++) {
        float d = in->lp[i] - (float)((Mean *)ctx)->lp;
        out->loss[i] = d * d / ROWS;
        out->dlp[i] = 2 * d / ROWS;
    }
}

static void step(Lab *l, const TrainStep *s, Trace *t)
{
    TrainOut out;
    size_t M = (size_t)s->predict.M * sizeof(float), bytes = l->p->engine.table.state_total * sizeof(float);
    if (l->place.plugin) train_gradients(&l->p->engine, &l->p->w, &l->p->g, s, &out); /* asks for memory */
    long chunks = l->p->engine.chunks_run, waits = waits_of(l);
    train_gradients(&l->p->engine, &l->p->w, &l->p->g, s, &out);
    waits = waits_of(l) - waits;
    int passes = s->loss->prepare ? 2 : 1;
    assert_int_equal(l->p->engine.chunks_run - chunks, CHUNKS * passes);
    if (l->place.plugin) assert_int_equal(waits, CHUNKS * passes); /* once a chunk, and nowhere else */
    trace(t, out.rows.lp, M), trace(t, out.rows.loss, M);
    if (out.rows.entropy) trace(t, out.rows.entropy, M);
    if (out.rows.kl) trace(t, out.rows.kl, M);
    if (out.rows.ref_lp) trace(t, out.rows.ref_lp, M);
    float *g = malloc(bytes);
    assert_non_null(g);
    l->ops->device.download(l->b, g, l->p->g.block, bytes);
    trace(t, g, bytes);
    free(g);
}

static Trace chunks_at(const Place *at)
{
    static float weight[ROWS], advantage[ROWS], old[ROWS], ratio[ROWS], kl[ROWS], ref_lp[ROWS];
    static uint8_t flags[ROWS];
    Lab l = lab_open(at, ARCH_QWEN3, 1);
    BatchBuilder b = {0};
    Rng rng = rng_stream(3, RNG_DATA, 1, 0);
    Trace t = {0};
    policy_train_open(l.p);
    policy_reference_set(l.p);
    while (b.m < ROWS) {
        int32_t ids[LONGEST];
        int n = ROWS - b.m < LONGEST - 1 ? ROWS - b.m + 1 : LONGEST;
        for (int i = 0; i < n; i++) ids[i] = (int32_t)rng_below(&rng, PLACES_VOCAB);
        batch_add(&b, ids, n, 1);
    }
    for (int i = 0; i < ROWS; i++) weight[i] = 1.0f / ROWS, advantage[i] = i % 3 ? -0.5f : 1, old[i] = -4;
    GrpoLoss g = {.config = {.clip_low = 0.2f,
                             .clip_high = 0.2f,
                             .beta = 0.1f,
                             .estimator = KL_EXACT,
                             .log_clamp = 10,
                             .entropy_bonus = 0.01f},
                  .weight = weight,
                  .advantage = advantage,
                  .old_lp = old,
                  .ratio = ratio,
                  .kl = kl,
                  .flags = flags};
    Mean mean;
    KlLoss distilled = {weight};
    Loss of_grpo = grpo_loss(&g), of_all = {mean_prepare, mean_eval, &mean, false, false},
         forward = kl_loss(&distilled);
    TrainStep s = {
        .batch = batch_view(&b), .predict = batch_predictions(&b), .inv_temperature = 1.25f, .loss = &of_all};
    step(&l, &s, &t);
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1};
    Status st = {0};
    if (!policy_update(l.p, &o, 3e-3f, NULL, &st)) fail_msg("%s", st.text); /* away from the reference */
    s.reference = &l.p->ref, s.reference_lp = ref_lp;
    s.loss = &forward, s.forward_kl = true;
    step(&l, &s, &t);
    s.loss = &of_grpo, s.forward_kl = false, s.entropy = true;
    step(&l, &s, &t);
    batch_free(&b);
    lab_close(&l);
    return t;
}

static void chunks_in_flight(void **state)
{
    (void)state;
    Place list[8];
    int n = other_places(list);
    for (int i = 0; i < n; i++) trace_check_equal((size_t)i, chunks_at(&(Place){0}), chunks_at(&list[i]));
    if (n == 1) print_message("no C++ compiler: nothing is asked of the emulated GPU\n");
}

/* Both kinds of sums, of all layers: a wait beside the head's. */
static void balance_is_one_wait(void **state)
{
    (void)state;
    Place list[8];
    int n = other_places(list);
    for (int i = 1; i < n; i++) {
        Lab l = lab_open(&list[i], ARCH_DEEPSEEK_V3, 3);
        int32_t ids[6] = {3, 1, 4, 1, 5, 9};
        float weight[5] = {0.2f, 0.2f, 0.2f, 0.2f, 0.2f};
        BatchBuilder b = {0};
        BalanceConfig balance = {.expert = 0.01f, .comm = 0.02f, .sequence = 0.03f, .devices = 4, .limit = 2};
        NllLoss nll = {weight};
        Loss loss = nll_loss(&nll);
        TrainOut out;
        policy_train_open(l.p);
        batch_add(&b, ids, 6, 1);
        TrainStep s = {.batch = batch_view(&b), .predict = batch_predictions(&b), .inv_temperature = 1, .loss = &loss};
        s.balance = &balance;
        train_gradients(&l.p->engine, &l.p->w, &l.p->g, &s, &out); /* asks for memory */
        long waits = waits_of(&l);
        train_gradients(&l.p->engine, &l.p->w, &l.p->g, &s, &out);
        assert_int_equal(waits_of(&l) - waits, 2);
        batch_free(&b);
        lab_close(&l);
    }
}

/* ---- Decoding one step late ---- */

/* Tokens as on_token tells of them, item by item. */
typedef struct Told {
    int32_t ids[PROMPTS * SAMPLES][TOKENS];
    int n[PROMPTS * SAMPLES], total, cancel_at;
    volatile int cancel;
} Told;

static void tell(void *ctx, int item, int32_t id)
{
    Told *t = ctx;
    assert_in_range(t->n[item], 0, TOKENS - 1);
    t->ids[item][t->n[item]++] = id;
    t->total++;
    t->cancel = t->cancel_at && t->total >= t->cancel_at;
}

/* Sizes of a rollout: many ends, so that slots are filled again and again; some items end with their first token. */
typedef struct Shape {
    int slots, max_tokens, n_stops;
    CacheKind cache;
    float temperature;
} Shape;

static const Shape shapes[] = {{7, TOKENS, 12, CACHE_EXACT, 1},   {3, TOKENS, 12, CACHE_LATENT, 0.7f},
                               {40, TOKENS, 0, CACHE_EXACT, 1},   {5, 1, 12, CACHE_EXACT, 1},
                               {1, 2, 4, CACHE_EXACT, 0},         {7, TOKENS, 12, CACHE_EXACT, 1},
                               {7, TOKENS, 12, CACHE_EXACT, 1.3f}};

/* A rollout; false: it was cancelled after cancel_at tokens. */
static bool roll(Lab *l, const Shape *s, int cancel_at, RolloutStats *stats, Trace *t)
{
    static const int32_t stops[] = {1, 4, 9, 13, 17, 20, 22, 26, 31, 35, 44, 48};
    static const int lengths[PROMPTS] = {3, 64, 90, 1, 20, 128};
    int32_t ids[PROMPTS][128];
    RolloutPrompt list[PROMPTS];
    Completion out[PROMPTS * SAMPLES];
    Told told = {.cancel_at = cancel_at};
    Rng rng = rng_stream(5, RNG_DATA, 2, 0);
    Status st = {0};
    for (int i = 0; i < PROMPTS; i++) {
        for (int j = 0; j < lengths[i]; j++) ids[i][j] = (int32_t)rng_below(&rng, PLACES_VOCAB);
        list[i] = (RolloutPrompt){ids[i], lengths[i], (uint32_t)i + 10};
    }
    RolloutSpec spec = {.slots = s->slots,
                        .samples = SAMPLES,
                        .max_tokens = s->max_tokens,
                        .cache = s->cache,
                        .sampling = {.temperature = s->temperature, .top_p = 1},
                        .stops = stops,
                        .n_stops = s->n_stops,
                        .seed = 11,
                        .purpose = RNG_ROLLOUT,
                        .on_token = tell,
                        .on_token_ctx = &told,
                        .cancel = &told.cancel};
    if (!rollout_run(l->p->sampler, &l->p->w, &spec, list, PROMPTS, out, stats, &st)) {
        assert_int_not_equal(cancel_at, 0);
        assert_string_equal(st.text, "interrupted");
        return false;
    }
    for (int i = 0; i < PROMPTS * SAMPLES; i++) {
        size_t n = (size_t)out[i].n;
        assert_int_equal(told.n[i], out[i].n);
        assert_memory_equal(told.ids[i], out[i].ids, n * sizeof *out[i].ids);
        trace(t, &out[i].n, sizeof out[i].n), trace(t, &out[i].truncated, sizeof out[i].truncated);
        trace(t, out[i].ids, n * sizeof *out[i].ids), trace(t, out[i].logprobs, n * sizeof *out[i].logprobs);
    }
    return true;
}

/* All shapes, with a rollout that is cut off in between; late: what is asked of the counts. */
static Trace rollouts_at(const Place *at, bool late)
{
    Lab l = lab_open(at, ARCH_DEEPSEEK_V3, 2);
    Trace t = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        RolloutStats s;
        long waits = waits_of(&l);
        assert_true(roll(&l, &shapes[i], 0, &s, &t));
        waits = waits_of(&l) - waits;
        trace(&t, &s.tokens, sizeof s.tokens);
        /* Of every sequence that a stop ended the row of one step; of one that its first token ended those of two. */
        bool stops = shapes[i].n_stops > 4 && shapes[i].max_tokens > 1;
        assert_true(late && stops ? s.discarded > 0 : shapes[i].n_stops > 0 || s.discarded == 0);
        if (!late) assert_int_equal(s.discarded, 0);
        assert_in_range(s.discarded, 0, 2 * PROMPTS * SAMPLES);
        /* The last two are of sizes that were seen: no memory is asked for, and every wait is for tokens. */
        if (late && at->plugin && i + 2 >= sizeof shapes / sizeof *shapes) assert_in_range(waits, s.steps, s.steps + 2);
        if (i == 2) assert_false(roll(&l, &shapes[i], 40, &s, &t));
    }
    lab_close(&l);
    return t;
}

static void late_is_not_late(void **state)
{
    (void)state;
    Place list[8];
    int n = other_places(list);
    list[n++] = (Place){.late = "yes"};
    for (int i = 0; i < n; i++)
        trace_check_equal((size_t)i, rollouts_at(&(Place){.late = "no"}, false), rollouts_at(&list[i], true));
    if (n > 2) {
        list[2].late = "no";
        trace_check_equal(2, rollouts_at(&(Place){0}, false), rollouts_at(&list[2], false));
        assert_int_equal(list[2].plugin->reports(), 0);
    }
}

/* A weight that is no number is told of in the same sentence, though the device is a step ahead. */
static void not_finite(void **state)
{
    (void)state;
    Place places[2] = {{.late = "yes"}, {.far = true, .slice_rows = SIZE_MAX, .late = "yes"}};
    for (int i = 0; i < 2; i++) {
        Lab l = lab_open(&places[i], ARCH_QWEN3, 1);
        Status st = {0};
        int32_t id = 3;
        RolloutPrompt prompt = {&id, 1, 0};
        Completion out;
        RolloutSpec spec = {.slots = 1,
                            .samples = 1,
                            .max_tokens = TOKENS,
                            .sampling = {.temperature = 1, .top_p = 1},
                            .purpose = RNG_ROLLOUT};
        l.ops->fill(l.b, l.p->w.norm, (size_t)l.c.C, NAN);
        l.ops->weights_changed(l.b);
        assert_false(rollout_run(l.p->sampler, &l.p->w, &spec, &prompt, 1, &out, NULL, &st));
        assert_non_null(strstr(st.text, "log-prob that is not finite for a completion of prompt 1"));
        lab_close(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(chunks_in_flight), cmocka_unit_test(balance_is_one_wait),
                                       cmocka_unit_test(late_is_not_late), cmocka_unit_test(not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
