/* Training a part of a model: which tensors a pattern means, where their state lies, and that their gradients are those of
 * training everything, bit for bit, whatever is recomputed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params_select.h"
#include "tests/unit/golden.h"
#include "tests/unit/unit.h"

enum { MOST = 3 };

static void test_patterns(void **state)
{
    (void)state;
    const char *expert = "model.layers.25.mlp.experts.7.gate_proj.weight";
    const char *in[] = {
        "all",      "experts",  "experts.7",          "experts.7.*", "layers.2[4-6]", "mlp.experts.?.gate_proj",
        "*.weight", "layers.*", "layers.*.gate_proj", expert,        "gate_proj"};
    const char *out[] = {"", "expert", "experts.70", "layers.2", "layers.2[0-4]", "self_attn", "gate", "7.*.down_proj"};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++)
        if (!params_match(in[i], expert)) fail_msg("'%s' should mean %s", in[i], expert);
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        if (params_match(out[i], expert)) fail_msg("'%s' should not mean %s", out[i], expert);
}

static int select_in(Golden *g, const char *const *patterns)
{
    int n = 0;
    while (n < MOST && patterns[n]) n++;
    return params_select(&g->policy->engine.table, patterns, n);
}

static void step_gradients(Golden *g, const BalanceConfig *balance)
{
    NllLoss nll = {g->weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(&g->batch),
                      .predict = batch_predictions(&g->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss,
                      .balance = balance};
    TrainOut out;
    policy_train_open(g->policy);
    train_gradients(&g->policy->engine, &g->policy->w, &g->policy->g, &task, &out);
}

static bool is_multiple(const Param *p)
{
    return p->state % 16 == 0;
}

static void expect_part(const char *model, const char *const *patterns, const Golden *whole, const Golden *part)
{
    const ParamTable *t = &part->policy->engine.table, *all = &whole->policy->engine.table;
    Engine *e = &part->policy->engine;
    double total = 0, squares;
    size_t trained = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        const float *want = whole->policy->grads + all->params[i].state;
        bool chosen = false;
        for (int k = 0; k < MOST && patterns[k]; k++) chosen |= params_match(patterns[k], p->name);
        assert_int_equal(p->chosen, chosen);
        assert_int_equal(p->trained, chosen && p->kind != PARAM_ROUTER_BIAS);
        if (p->state != SIZE_MAX && !param_joins(p->kind) && p->kind != PARAM_DOWN && p->kind != PARAM_EXPERT_DOWN &&
            p->kind != PARAM_SHARED_DOWN)
            assert_true(is_multiple(p));
        if (!p->trained) continue;
        if (memcmp(part->policy->grads + p->state, want, p->count * sizeof *want))
            fail_msg("%s, %s: the gradient of %s differs from training all", model, patterns[0], p->name);
        e->ops->sum_squares(e->backend, &squares, want, p->count);
        total += squares;
        trained += p->count;
    }
    assert_true(trained > 0 && trained == t->trained_count && t->state_total < all->state_total);
    double norm = optimizer_grad_norm(e, part->policy->grads);
    if (norm != sqrt(total)) fail_msg("%s, %s: a norm of %.17g, not %.17g", model, patterns[0], norm, sqrt(total));
}

/* A step of AdamW: what is frozen stays, and what is trained moves. */
static void expect_step(const char *model, const char *const *patterns, Golden *part)
{
    Policy *p = part->policy;
    const ParamTable *t = &p->engine.table;
    Status st = {0};
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 0.5f};
    float *before = malloc(t->total * sizeof *before);
    assert_non_null(before);
    memcpy(before, p->weights.plain, t->total * sizeof *before);
    assert_true(policy_update(p, &o, 1e-2f, NULL, &st));
    for (int i = 0; i < t->n; i++) {
        const Param *q = &t->params[i];
        bool same = !memcmp(before + q->offset, p->weights.plain + q->offset, q->count * sizeof *before);
        if (same == q->trained && !(q->layer >= 0 && q->expert >= 0))
            fail_msg("%s, %s: %s %s", model, patterns[0], q->name, same ? "stayed" : "moved");
        if (!same) assert_true(q->trained);
    }
    free(before);
}

/* Each selection with every layer kept, and with every layer recomputed. */
static void part_of(const char *model, const char *const (*selections)[MOST], int n)
{
    const BalanceConfig losses = {.expert = 0.01f, .sequence = 0.01f, .devices = 1, .limit = 1};
    for (int i = 0; i < n; i++) {
        for (int kept = 0; kept < 2; kept++) {
            Golden whole, part;
            golden_open(&whole, model, model);
            golden_open(&part, model, model);
            BalanceConfig balance = losses;
            if (whole.policy->config.topk == TOPK_NOAUX) balance.expert = 0;
            else balance.sequence = 0;
            const BalanceConfig *b = whole.policy->config.E ? &balance : NULL;
            assert_int_equal(select_in(&part, selections[i]), -1);
            if (!kept) part.policy->engine.keep_bytes = 0;
            step_gradients(&whole, b);
            step_gradients(&part, b);
            int L = part.policy->config.L, lowest = part.policy->engine.table.lowest_trained;
            assert_int_equal(part.policy->engine.layers_kept, kept ? L - (lowest < 0 ? 0 : lowest) : 0);
            expect_part(model, selections[i], &whole, &part);
            expect_step(model, selections[i], &part);
            golden_close(&whole);
            golden_close(&part);
        }
    }
}

static const char *const mla_parts[][MOST] = {{"self_attn"},
                                              {"q_proj", "kv_b_proj"}, /* one member of a joined product */
                                              {"layers.1"},
                                              {"experts.[1-2].*", "mlp.gate"},
                                              {"experts.*.down_proj"},
                                              {"lm_head"},
                                              {"embed_tokens"},
                                              {"shared_experts", "norm"},
                                              {"e_score_correction_bias", "o_proj"}};

static void test_v2_lite(void **state)
{
    (void)state;
    part_of("v2_lite", mla_parts, 8);
}

static void test_v3(void **state)
{
    (void)state;
    const char *const parts[][MOST] = {
        {"q_a_proj"}, {"layers.1", "kv_a_proj_with_mqa"}, {"e_score_correction_bias", "o_proj"}, {"experts.[02]*"}};
    part_of("v3", parts, 4);
}

static void test_dense(void **state)
{
    (void)state;
    const char *const parts[][MOST] = {{"v_proj"}, {"q_proj.bias"}, {"mlp.up_proj"}, {"layers.1"}};
    part_of("qwen2", parts, 4);
    const char *const biases[][MOST] = {
        {"o_proj.bias"}, {"up_proj.bias"}, {"layers.1.mlp.down_proj.bias"}, {"gate_proj.weight"}};
    part_of("llama_bias", biases, 4);
}

static void test_no_match(void **state)
{
    (void)state;
    Golden g;
    golden_open(&g, "v2_lite", "v2_lite");
    const char *const patterns[MOST] = {"self_attn", "self_atn"};
    ParamTable *t = &g.policy->engine.table;
    assert_int_equal(select_in(&g, patterns), 1);
    assert_true(params_all_chosen(t));
    assert_int_equal(t->state_total, t->total);
    for (int i = 0; i < t->n; i++) assert_int_equal(t->params[i].state, t->params[i].offset);
    assert_int_equal(select_in(&g, (const char *const[MOST]){NULL}), -1);
    assert_int_equal(t->trained_count, 0);
    assert_int_equal(t->lowest_trained, t->L);
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns), cmocka_unit_test(test_no_match), cmocka_unit_test(test_v2_lite),
        cmocka_unit_test(test_v3),       cmocka_unit_test(test_dense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
