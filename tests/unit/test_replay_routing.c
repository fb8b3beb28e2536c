/* Choices of experts replayed: a sampler whose router is biased to other experts, whose samples' log-probs are the trainer's to
 * the bit once the trainer takes its choices; gradients with given choices by central differences. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/model/machine.h"
#include "recipes/stages/rl_batch.h"
#include "recipes/stages/rl_routing.h"
#include "tests/unit/unit.h"

enum { VOCAB = 31, PROMPTS = 3, G = 2, ALL = PROMPTS * G, TOKENS = 9 };

static const ModelConfig moe = {.arch = ARCH_DEEPSEEK_V3,
                                .attention = ATTENTION_MLA,
                                .V = VOCAB,
                                .C = 16,
                                .L = 3,
                                .H = 2,
                                .Hkv = 2,
                                .Rkv = 8,
                                .Dn = 4,
                                .Dr = 4,
                                .Dv = 4,
                                .F = 24,
                                .E = 4,
                                .K = 2,
                                .moe_F = 8,
                                .first_dense = 1,
                                .moe_freq = 1,
                                .n_group = 1,
                                .topk_group = 1,
                                .topk = TOPK_NOAUX,
                                .score = SCORE_SIGMOID,
                                .norm_topk = true,
                                .routed_scale = 1.5f,
                                .eps = 1e-6f,
                                .rope = {.theta = 1000, .interleaved = true},
                                .max_positions = 64,
                                .init_std = 0.4f,
                                .bos = -1,
                                .eos = 1};

typedef struct Lab {
    Machine m;
    Policy *p, *q; /* trainer; sampler with another bias of its routers */
    Group groups[PROMPTS];
    RlBatch batch;
    int list[ALL];
    RlPart part;
} Lab;

static void open_models(Lab *l)
{
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = 1;
    assert_true(machine_open(&l->m, &o, &st));
    l->p = policy_new(machine_engine(&l->m), &moe, 5, NULL);
    l->q = policy_new(machine_engine(&l->m), &moe, 5, NULL);
    for (int layer = 1; layer < moe.L; layer++)
        for (int e = 0; e < moe.E; e++) l->q->w.layers[layer].router_bias[e] += e % 2 ? 0.3f : -0.1f;
    policy_weights_changed(l->q);
}

/* Completions of q, as an RL step keeps them. */
static void sample(Lab *l)
{
    Status st = {0};
    static int32_t ids[PROMPTS][7];
    RolloutPrompt prompts[PROMPTS];
    Completion out[ALL];
    for (int i = 0; i < PROMPTS; i++) {
        for (int k = 0; k < 7; k++) ids[i][k] = (i * 9 + k * 5 + 2) % VOCAB;
        prompts[i] = (RolloutPrompt){ids[i], 3 + 2 * i, (uint32_t)i};
    }
    /* Fewer slots than samples: they are refilled. */
    RolloutSpec spec = {.slots = 3,
                        .samples = G,
                        .max_tokens = TOKENS,
                        .cache = CACHE_EXACT,
                        .routes = true,
                        .sampling = {.temperature = 1, .top_p = 1},
                        .stops = &moe.eos,
                        .n_stops = 1,
                        .purpose = RNG_ROLLOUT};
    if (!rollout_run(l->q->sampler, &l->q->w, &spec, prompts, PROMPTS, out, NULL, &st)) fail_msg("%s", st.text);
    for (int i = 0; i < ALL; i++) {
        Group *g = &l->groups[i / G];
        if (!g->samples) {
            g->samples = calloc(G, sizeof *g->samples);
            g->prompt = (Ids){.ids = ids[i / G], .n = prompts[i / G].n};
            g->routes = (uint16_t *)out[i].prompt_routes;
        }
        g->samples[i % G] = (Sample){.ids = (int32_t *)out[i].ids,
                                     .logprobs = (float *)out[i].logprobs,
                                     .routes = (uint16_t *)out[i].routes,
                                     .n = out[i].n};
        l->list[i] = i;
    }
    l->part = (RlPart){l->list, ALL, 1};
    float weight[ALL];
    for (int i = 0; i < ALL; i++) weight[i] = 0.1f;
    RlPicked picked = {l->list, ALL, weight};
    rl_batch_fill(&l->batch, l->groups, G, &picked, &l->part);
}

static void lab_close(Lab *l)
{
    for (int i = 0; i < PROMPTS; i++) free(l->groups[i].samples);
    rl_batch_free(&l->batch);
    policy_free(l->p);
    policy_free(l->q);
    machine_close(&l->m);
}

static double gap(Lab *l, const RoutingGiven *given)
{
    float lp[ALL * TOKENS];
    double most = 0;
    Predictions predict = batch_predictions(&l->batch.tokens);
    l->p->engine.given = given;
    train_log_probs(&l->p->engine, &l->p->w, batch_view(&l->batch.tokens), &predict, 1, lp, NULL);
    l->p->engine.given = NULL;
    for (int i = 0; i < predict.M; i++) most = fmax(most, fabs((double)lp[i] - (double)l->batch.old_lp[i]));
    return most;
}

static void cured(void **state)
{
    (void)state;
    Lab l = {0};
    open_models(&l);
    sample(&l);
    const RoutingGiven *given = rl_batch_routes(&l.batch, &moe, l.groups, G, &l.part);
    assert_non_null(given);
    double differ = routing_gap_own(l.p, &l.batch.tokens, given), before = gap(&l, NULL), after = gap(&l, given);
    if (!(differ > 0.05 && before > 0.01)) fail_msg("planted: %g of choices differ, log-probs by %g", differ, before);
    if (after != 0) fail_msg("with the sampler's choices log-probs still differ by %g (%g without)", after, before);
    assert_true(routing_gap_own(l.q, &l.batch.tokens, given) == 0);
    lab_close(&l);
}

static void gradient(void **state)
{
    (void)state;
    Lab l = {0};
    open_models(&l);
    sample(&l);
    const RoutingGiven *given = rl_batch_routes(&l.batch, &moe, l.groups, G, &l.part);
    policy_train_open(l.p);
    NllLoss nll = {l.batch.weight};
    Loss loss = nll_loss(&nll);
    TrainStep step = {.batch = batch_view(&l.batch.tokens),
                      .predict = batch_predictions(&l.batch.tokens),
                      .inv_temperature = 1,
                      .loss = &loss,
                      .given = given};
    TrainOut out;
    train_gradients(&l.p->engine, &l.p->w, &l.p->g, &step, &out);
    assert_null(l.p->engine.given);
    double worst = 0, largest = 0;
    const ParamTable *t = &l.p->engine.table;
    for (int k = 0; k < t->n; k++) {
        const Param *q = &t->params[k];
        bool router = q->kind == PARAM_ROUTER;
        for (size_t i = 0; i < q->count && q->state != SIZE_MAX; i += router ? 3 : 37) {
            float *x = &l.p->weights.plain[q->offset + i], keep = *x, h = 1e-3f;
            double at[2];
            for (int side = 0; side < 2; side++) {
                float lp[ALL * TOKENS];
                *x = side ? keep - h : keep + h;
                policy_weights_changed(l.p);
                l.p->engine.given = given;
                train_log_probs(&l.p->engine, &l.p->w, step.batch, &step.predict, 1, lp, NULL);
                l.p->engine.given = NULL;
                at[side] = 0;
                for (int r = 0; r < step.predict.M; r++) at[side] -= (double)l.batch.weight[r] * (double)lp[r];
            }
            *x = keep;
            double want = (at[0] - at[1]) / (2 * (double)h), got = (double)l.p->grads[q->state + i];
            worst = fmax(worst, fabs(want - got));
            if (router) largest = fmax(largest, fabs(want));
        }
    }
    assert_true(largest > 1e-3); /* the router learns */
    if (worst > 4e-3) fail_msg("gradients off by %g; the router's largest is %g", worst, largest);
    lab_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cured),
        cmocka_unit_test(gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
