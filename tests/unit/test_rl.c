/* What the keys of an RL step mean, on groups and rewards made by hand: advantages, weights, old log-probs, mini-batches, masks,
 * refills, the part of a stage in which reward models act, numbers, rewards that nothing can be learned from. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/model/prompts.h"
#include "recipes/stages/rl.h"
#include "recipes/stages/rl_numbers.h"
#include "recipes/stages/rl_rate.h"
#include "recipes/stages/rl_state.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

enum { G = 4 };

/* A group with these rewards; completion i has 2 + i tokens, log-probs -(i + 1) / 8 and token ids 10 g + i. */
static Group group(int g, const float *rewards)
{
    Group out = {.index = (uint32_t)g, .samples = calloc(G, sizeof *out.samples)};
    out.problem.kind = KIND_REASONING;
    out.problem.prompt = strdup("how many?");
    for (int i = 0; i < 3; i++) ids_push(&out.prompt, i);
    for (int i = 0; i < G; i++) {
        Sample *s = &out.samples[i];
        s->n = 2 + i;
        s->ids = malloc((size_t)s->n * sizeof *s->ids);
        s->logprobs = malloc((size_t)s->n * sizeof *s->logprobs);
        for (int t = 0; t < s->n; t++) s->ids[t] = 10 * g + i, s->logprobs[t] = -(float)(i + 1) / 8;
        s->reward.total = rewards[i];
        s->text = strdup("x");
    }
    return out;
}

static const float mixed[G] = {1, 0, 0, 1}, flat[G] = {1, 1, 1, 1}, other[G] = {0, 0, 0, 4};

/* Two groups, the first without a signal. */
static void two(Group *out)
{
    out[0] = group(0, flat);
    out[1] = group(1, mixed);
    groups_advantages(out, 2, G, false);
}

static RecipeRl config(void)
{
    return (RecipeRl){
        .prompts = 2, .group = G, .max_tokens = 10, .loss = GRPO_TOKEN, .mini_batches = 1, .inner_epochs = 1};
}

/* A reward minus its group's mean, over the sample standard deviation where the recipe says so. */
static void advantages(void **state)
{
    (void)state;
    Group g[2] = {group(0, other), group(1, flat)};
    groups_advantages(g, 2, G, false);
    assert_true(g[0].signal);
    assert_false(g[1].signal);
    const float plain[G] = {-1, -1, -1, 3};
    for (int i = 0; i < G; i++) {
        assert_float_equal(g[0].samples[i].advantage, plain[i], 1e-6);
        assert_float_equal(g[1].samples[i].advantage, 0, 0);
    }
    groups_advantages(g, 2, G, true);
    for (int i = 0; i < G; i++) assert_float_equal(g[0].samples[i].advantage, plain[i] / 2, 1e-3);
    groups_free(g, 2, G);
}

/* Only groups with a signal are trained on, but a mean is over all completions of the step. */
static void picked(void **state)
{
    (void)state;
    Group g[2];
    two(g);
    RecipeRl rl = config();
    RlPicked p = rl_pick(g, 2, &rl);
    assert_int_equal(p.n, G);
    for (int i = 0; i < G; i++) {
        assert_int_equal(p.list[i], G + i);
        assert_float_equal(p.weight[G + i], 1.0 / (2 * G * (2 + i)), 1e-7); /* grpo: 1 / (n length) */
    }
    rl_picked_free(&p);
    rl.loss = GRPO_DR;
    p = rl_pick(g, 2, &rl);
    assert_float_equal(p.weight[G], 1.0 / (2 * G * 10), 1e-7); /* dr_grpo: 1 / (n max_tokens) */
    rl_picked_free(&p);
    rl.loss = GRPO_DAPO;
    p = rl_pick(g, 2, &rl);
    assert_float_equal(p.weight[G], 1.0 / (2 * (2 + 3 + 4 + 5)), 1e-7); /* dapo: 1 / all tokens */
    rl_picked_free(&p);
    groups_free(g, 2, G);
}

/* mask_truncated: a truncated completion has no weight, and its tokens are in no mean. */
static void masked(void **state)
{
    (void)state;
    Group g[2];
    two(g);
    g[1].samples[3].truncated = true;
    RecipeRl rl = config();
    rl.loss = GRPO_DAPO;
    RlPicked p = rl_pick(g, 2, &rl);
    assert_true(p.weight[G + 3] > 0);
    rl_picked_free(&p);
    rl.mask_truncated = true;
    p = rl_pick(g, 2, &rl);
    assert_float_equal(p.weight[G + 3], 0, 0);
    assert_float_equal(p.weight[G], 1.0 / (2 * (2 + 3 + 4 + 5) - 5), 1e-7);
    rl_picked_free(&p);
    groups_free(g, 2, G);
}

/* Mini-batches share the completions out, each once a pass, scaled so that an update weighs as much as a whole batch; a pass
 * has an order of its own. */
static void mini_batches(void **state)
{
    (void)state;
    Group g[2] = {group(0, other), group(1, mixed)};
    groups_advantages(g, 2, G, false);
    RecipeRl rl = config();
    RlPicked p = rl_pick(g, 2, &rl);
    int order[2 * G], again[2 * G], met[2 * G] = {0}, parts = rl_part_count(&p, &rl), same = 0;
    assert_int_equal(parts, 1);
    rl_order(order, &p, parts, 5, 0);
    for (int i = 0; i < 2 * G; i++) assert_int_equal(order[i], i);
    rl.mini_batches = 3;
    parts = rl_part_count(&p, &rl);
    assert_int_equal(parts, 3);
    rl_order(order, &p, parts, 5, 0);
    rl_order(again, &p, parts, 5, 1);
    int n = 0;
    for (int k = 0; k < parts; k++) {
        RlPart part = rl_part(order, p.n, k, parts);
        assert_float_equal(part.scale, 3, 0);
        assert_in_range(part.n, 2, 3);
        for (int i = 0; i < part.n; i++, n++) met[part.list[i]]++;
    }
    assert_int_equal(n, 2 * G);
    for (int i = 0; i < 2 * G; i++) {
        assert_int_equal(met[i], 1);
        same += order[i] == again[i];
    }
    assert_true(same < 2 * G);
    rl.mini_batches = 100; /* at most one a completion */
    assert_int_equal(rl_part_count(&p, &rl), 2 * G);
    rl_picked_free(&p);
    groups_free(g, 2, G);
}

/* A row of the batch: its completion's weight, scaled; its advantage; the sampler's log-prob, whatever was trained meanwhile. */
static void rows(void **state)
{
    (void)state;
    Group g[2];
    two(g);
    RecipeRl rl = config();
    RlPicked p = rl_pick(g, 2, &rl);
    RlBatch b = {0};
    int list[] = {G + 2, G};
    RlPart part = {list, 2, 2.0f};
    for (int round = 0; round < 2; round++) { /* the second update of a step sees the same old log-probs */
        rl_batch_fill(&b, g, G, &p, &part);
        assert_int_equal(b.tokens.m, 4 + 2);
        assert_int_equal(b.tokens.n, 7 + 5);
        for (int i = 0; i < b.tokens.m; i++) {
            const Sample *s = &g[1].samples[i < 4 ? 2 : 0];
            assert_float_equal(b.weight[i], 2 * p.weight[i < 4 ? G + 2 : G], 1e-8);
            assert_float_equal(b.advantage[i], s->advantage, 0);
            assert_float_equal(b.old_lp[i], s->logprobs[0], 0);
            assert_int_equal(b.tokens.targets[i], s->ids[0]);
            b.old_lp[i] = 7;
        }
    }
    rl_batch_free(&b);
    rl_picked_free(&p);
    groups_free(g, 2, G);
}

/* With a correction a row has its importance weight and the trainer's log-prob of before the first update. */
static void corrected_rows(void **state)
{
    (void)state;
    Group g[2];
    two(g);
    Sample *s = &g[1].samples[2];
    s->correction = calloc((size_t)s->n, sizeof *s->correction);
    s->trainer_logprobs = calloc((size_t)s->n, sizeof *s->trainer_logprobs);
    for (int t = 0; t < s->n; t++) s->correction[t] = 0.25f * (float)t, s->trainer_logprobs[t] = -7;
    RecipeRl rl = config();
    RlPicked p = rl_pick(g, 2, &rl);
    RlBatch b = {0};
    int list[] = {G + 2, G};
    rl_batch_fill(&b, g, G, &p, &(RlPart){list, 2, 1});
    for (int i = 0; i < b.tokens.m; i++) {
        assert_float_equal(b.correction[i], i < 4 ? 0.25 * i : 1, 0);
        assert_float_equal(b.old_lp[i], i < 4 ? -7 : g[1].samples[0].logprobs[0], 0);
    }
    rl_batch_free(&b);
    rl_picked_free(&p);
    groups_free(g, 2, G);
}

/* What a rollout says of a token is what the first update of its step saw, whatever later ones see. */
static void rows_of_the_first_update(void **state)
{
    (void)state;
    Group g[2];
    two(g);
    int first[] = {G + 1}, both[] = {G, G + 1};
    float entropy[8] = {1, 2, 3, 4, 5, 6, 7, 8}, ref[8] = {-1, -2, -3, -4, -5, -6, -7, -8};
    rl_keep_rows(g, G, &(RlPart){first, 1, 1}, entropy, ref);
    for (int i = 0; i < 8; i++) entropy[i] *= 10;
    rl_keep_rows(g, G, &(RlPart){both, 2, 1}, entropy, NULL);
    const Sample *s = g[1].samples;
    for (int t = 0; t < s[1].n; t++) assert_true(s[1].entropy[t] == 1 + t && s[1].ref_logprobs[t] == -1 - t);
    for (int t = 0; t < s[0].n; t++) assert_true(s[0].entropy[t] == 10 * (1 + t));
    assert_null(s[0].ref_logprobs);
    assert_null(s[2].entropy);
    groups_free(g, 2, G);
}

/* refill: a fresh group with a signal takes the place of one without; one without is dropped. */
static void refilled(void **state)
{
    (void)state;
    Group g[3] = {group(0, flat), group(1, mixed), group(2, flat)}, fresh[2] = {group(3, flat), group(4, other)};
    groups_advantages(g, 3, G, false);
    groups_advantages(fresh, 2, G, false);
    assert_int_equal(groups_replace(g, fresh, 3, G), 1);
    assert_int_equal(g[0].index, 0); /* the first fresh one had no signal */
    assert_int_equal(g[1].index, 1);
    assert_int_equal(g[2].index, 4);
    assert_true(g[2].signal);
    assert_null(fresh[0].samples);
    assert_null(fresh[1].samples);
    groups_free(g, 3, G);
}

/* preference_last: the share of the steps, at the end, in which the reward models act. */
static void preferences(void **state)
{
    (void)state;
    RecipeRl rl = {.preference_last = 0.25};
    int acting = 0;
    for (int64_t step = 0; step < 20; step++) acting += rl_preferences_act(&rl, step, 20);
    assert_int_equal(acting, 5);
    assert_false(rl_preferences_act(&rl, 0, 20));
    assert_false(rl_preferences_act(&rl, 14, 20));
    assert_true(rl_preferences_act(&rl, 15, 20));
    rl.preference_last = 1;
    assert_true(rl_preferences_act(&rl, 0, 20));
    rl.preference_last = 0;
    assert_false(rl_preferences_act(&rl, 19, 20));
}

/* The learning rate of a unit with a budget of FLOPs follows the budget; it ends at the step that comes nearest. */
static void budget(void **state)
{
    (void)state;
    RecipeStage s = {.steps = 10, .optim = {.lr = 1, .lr_final = 0, .schedule = SCHEDULE_LINEAR}};
    Unit unit = {.stage = &s};
    Rl r = {.lr = 1, .flops = 0};
    UnitRun u = {.unit = &unit, .self = &r, .total = 10, .step = 4};
    assert_float_equal(rl_rate(&u, r.lr), 0.5, 1e-6); /* step 5 of 10 */
    assert_false(rl_budget_spent(&u, 1e9));
    r.flops = 1000;
    u.flops = 750;
    assert_float_equal(rl_rate(&u, r.lr), 0.249, 1e-3);
    assert_false(rl_budget_spent(&u, 400)); /* 950 is nearer to 1000 than 750 is, and 1150 would be as far */
    assert_true(rl_budget_spent(&u, 500));
    u.flops = 1000;
    assert_true(rl_budget_spent(&u, 1));
}

/* Numbers of a step: of all samples, refills apart. */
static void numbers(void **state)
{
    (void)state;
    Group g[2];
    two(g);
    RecipeRewards rewards = {.list = {{.kind = REWARD_ACCURACY, .name = "accuracy", .weight = 1}}, .n = 1};
    for (int i = 0; i < 2 * G; i++) {
        Sample *s = &g[i / G].samples[i % G];
        s->reward.verdict.score = i == 0 || i == G; /* lengths 2 and 2 are right */
        s->reward.parts[0] = s->reward.verdict.score;
        s->reward.applies[0] = true;
        s->format_ok = i % 2;
        s->truncated = i == 1;
    }
    RlNumbers n = rl_numbers(g, 2, G, &rewards);
    assert_int_equal(n.zero_groups, 1);
    g[1].signal = false;
    assert_int_equal(rl_numbers(g, 2, G, &rewards).zero_groups, 2);
    g[1].signal = true;
    assert_float_equal(n.reward, 6.0 / 8, 1e-9);
    assert_float_equal(n.pass1, 2.0 / 8, 1e-9);
    assert_float_equal(n.parts[0], 2.0 / 8, 1e-9);
    assert_float_equal(n.format, 0.5, 1e-9);
    assert_float_equal(n.truncated, 1.0 / 8, 1e-9);
    assert_float_equal(n.length, 3.5, 1e-9);
    assert_float_equal(n.length_correct, 2, 1e-9);
    assert_float_equal(n.length_wrong, 4, 1e-9);
    groups_free(g, 2, G);
}

/* Several updates of a step: means over tokens, of losses and norms over updates, so that settings can be compared. */
static void updates(void **state)
{
    (void)state;
    RlNumbers n = {.kl_exact = (double)NAN};
    rl_numbers_add(
        &n, &(RlUpdate){.tokens = 10, .loss = 1, .grad_norm = 2, .entropy = 1, .kl = 1, .kl_exact = 3, .kl_clamps = 1});
    assert_float_equal(n.kl_exact, 3, 1e-12);
    rl_numbers_add(
        &n,
        &(RlUpdate){.tokens = 30, .loss = 3, .grad_norm = 4, .entropy = 5, .kl = 2, .kl_exact = 7, .clip_low = 0.4});
    assert_float_equal(n.loss, 2, 1e-12);
    assert_float_equal(n.grad_norm, 3, 1e-12);
    assert_float_equal(n.entropy, 4, 1e-12);
    assert_float_equal(n.kl, 1.75, 1e-12);
    assert_float_equal(n.kl_exact, 6, 1e-12);
    assert_float_equal(n.clip_low, 0.3, 1e-12);
    assert_int_equal(n.kl_clamps, 1);
    assert_true(n.updated);
}

/* What is counted of a completion: a truncated one has no format, the language is that of the thought alone. */
static void sampled(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool truncated, format, thinks;
        float language;
    } cases[] = {{"<think>one</think> <answer>2</answer>", false, true, true, 1},
                 {"<think>one</think> <answer>2</answer>", true, false, true, 1},
                 {"<think>\xe4\xb8\x80 one</think> <answer>2</answer>", false, true, true, 0.5f},
                 {"<answer>\xe4\xb8\x80</answer>", false, false, false, 1}};
    Tokenizer *t = tokenizer_new_char();
    const Problem p = {.task = task_find("add"), .language = LANGUAGE_EN, .prompt = "1+1", .answer = "2"};
    Voice v;
    Status st = {0};
    assert_true(voice_open(&v, t, NULL, NULL, NULL, &st));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Ids ids = {0};
        tokenizer_encode(t, cases[i].text, strlen(cases[i].text), &ids);
        if (!cases[i].truncated) ids_push(&ids, tokenizer_eos(t));
        float *logprobs = calloc((size_t)ids.n, sizeof *logprobs);
        logprobs[1] = -0.5f;
        Group g = {.samples = calloc(1, sizeof *g.samples)};
        Sample *s = g.samples;
        sample_fill(s, &(Completion){.ids = ids.ids, .logprobs = logprobs, .n = ids.n, .truncated = cases[i].truncated},
                    &v, &p);
        assert_string_equal(s->text, cases[i].text);
        assert_true(s->n == ids.n && !memcmp(s->ids, ids.ids, (size_t)ids.n * sizeof *s->ids));
        assert_true(s->logprobs[1] == -0.5f && s->truncated == cases[i].truncated);
        assert_int_equal(s->format_ok, cases[i].format);
        assert_int_equal(s->thinks, cases[i].thinks);
        assert_float_equal(s->language, cases[i].language, 1e-6);
        group_free(&g, 1);
        free(logprobs);
        free(ids.ids);
    }
    tokenizer_free(t);
}

/* reinforce_pp: rewards are normalised over the batch, so that a group of equal ones teaches too; with rloo it does not. */
static void batch_baselines(void **state)
{
    (void)state;
    Group g[2];
    two(g); /* 1 1 1 1 and 1 0 0 1: mean 0.75, deviation sqrt(1.5 / 8) */
    groups_batch_advantages(g, 2, G, GRPO_RLOO);
    assert_false(g[0].signal);
    assert_float_equal(g[1].samples[0].advantage, 1 - 1.0 / 3, 1e-6);
    groups_batch_advantages(g, 2, G, GRPO_REINFORCE_PP);
    assert_true(g[0].signal && g[1].signal);
    const double deviation = sqrt(1.5 / 8) + 1e-4;
    for (int i = 0; i < 2 * G; i++)
        assert_float_equal(g[i / G].samples[i % G].advantage, (g[i / G].samples[i % G].reward.total - 0.75) / deviation,
                           1e-5);
    groups_free(g, 2, G);
}

static void refused(float part, float weight, float total, const char *words)
{
    Group g = group(0, mixed);
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .name = "mine", .weight = weight, .command = "python3 judge.py"};
    Status st = {0};
    for (int i = 0; i < G; i++) g.samples[i].reward.applies[0] = true;
    assert_true(groups_check(&g, 1, G, &spec, 1, &st));
    g.samples[2].reward.parts[0] = part;
    g.samples[2].reward.total = total;
    assert_false(groups_check(&g, 1, G, &spec, 1, &st));
    assert_true(says(&st, words));
    assert_true(says(&st, "how many?"));
    group_free(&g, G);
}

/* Rewards are looked at when they come, and named: program, prompt, value. */
static void bad_rewards(void **state)
{
    (void)state;
    refused(3e38f, 1, 1, "reward mine (python3 judge.py, weight 1) is 3e+38");
    refused(1e8f, 100, 1, "reward mine (python3 judge.py, weight 100) is 1e+08");
    refused((float)NAN, 1, 1, "is nan");
    refused(1, 1, (float)INFINITY, "add up to inf");
}

/* A reward model that gives no number stops the step; it is not a model that does not apply. */
static void reward_model_gives_nan(void **state)
{
    (void)state;
    const RewardModel m = {.answer_only = true};
    Status st = {0};
    assert_true(reward_scores_finite(&m, (const float[]){-3, 0, 2}, 3, &st));
    assert_false(reward_scores_finite(&m, (const float[]){-3, 0, NAN}, 3, &st));
    assert_non_null(strstr(st.text, "helpful reward model gives"));
    status_clear(&st);
    assert_false(reward_scores_finite(&(RewardModel){0}, (const float[]){INFINITY}, 1, &st));
    assert_non_null(strstr(st.text, "safety reward model gives inf"));
}

/* A sample whose reward could not be had has no advantage, no part in the others' baseline, and is not trained on. */
static void failed_rewards(void **state)
{
    (void)state;
    static const float rewards[G] = {0, 1, 3, 0};
    static const GrpoKind kinds[] = {GRPO_TOKEN, GRPO_RLOO};
    static const float want[2][G] = {{0, -1, 1, 0}, {0, -2, 2, 0}};
    for (int k = 0; k < 2; k++) {
        Group g[2] = {group(0, rewards), group(1, rewards)};
        for (int i = 0; i < G; i++) g[1].samples[i].reward.failed = i != 2;
        g[0].samples[0].reward.failed = g[0].samples[3].reward.failed = true;
        groups_advantages(g, 2, G, false);
        groups_batch_advantages(g, 2, G, kinds[k]);
        for (int i = 0; i < G; i++) {
            assert_float_equal(g[0].samples[i].advantage, want[k][i], 1e-6);
            assert_float_equal(g[1].samples[i].advantage, 0, 0);
        }
        assert_true(g[0].signal && !g[1].signal);
        RecipeRl rl = config();
        RlPicked p = rl_pick(g, 2, &rl);
        assert_true(p.n == 2 && p.list[0] == 1 && p.list[1] == 2 && p.weight[0] == 0 && p.weight[1] > 0);
        const RecipeRewards one = {.n = 1};
        RlNumbers numbers = rl_numbers(g, 2, G, &one);
        assert_int_equal(numbers.failures, 5);
        assert_float_equal(numbers.reward, 7.0 / 3, 1e-6); /* of 1, 3 and 3 */
        rl_picked_free(&p);
        groups_free(g, 2, G);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advantages),
        cmocka_unit_test(picked),
        cmocka_unit_test(masked),
        cmocka_unit_test(mini_batches),
        cmocka_unit_test(rows),
        cmocka_unit_test(refilled),
        cmocka_unit_test(preferences),
        cmocka_unit_test(budget),
        cmocka_unit_test(numbers),
        cmocka_unit_test(updates),
        cmocka_unit_test(bad_rewards),
        cmocka_unit_test(reward_model_gives_nan),
        cmocka_unit_test(failed_rewards),
        cmocka_unit_test(sampled),
        cmocka_unit_test(corrected_rows),
        cmocka_unit_test(rows_of_the_first_update),
        cmocka_unit_test(batch_baselines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
