/* Which stages can be trained longer, and when two recipes differ in nothing but that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/config/recipe_load.h"
#include "recipes/config/recipe_longer.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static const char base[] = "model: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2}\n"
                           "student: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2}\n"
                           "tasks: {add: {levels: 1}}\n"
                           "general: {helpful: {}, refusal: {}}\n"
                           "rewards: {accuracy: 1}\n"
                           "stages:\n"
                           "  base: {steps: 100, schedule: constant, warmup: 50}\n"
                           "  cold: {kind: sft, from: base, epochs: 2, schedule: constant, warmup: 0}\n"
                           "  zero: {kind: rl, from: base, steps: 20, schedule: constant, warmup: 0}\n"
                           "  rm: {kind: reward_model, from: base, schedule: constant, warmup: 0}\n"
                           "  teach: {kind: distill, from: base, sample_from: zero, schedule: constant, warmup: 0}\n";

static Recipe *parse(const char *set)
{
    Status st = {0};
    Recipe *r = recipe_parse(base, "recipe", &set, set ? 1 : 0, &st);
    if (!r) fail_msg("%s: %s", set ? set : "", st.text);
    return r;
}

static void fixed_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *set, *stage, *words; /* NULL: it can go on */
    } list[] = {
        {NULL, "base", NULL},
        {NULL, "cold", NULL},
        {NULL, "zero", NULL},
        {NULL, "rm", NULL},
        {NULL, "teach", NULL},
        {"base.schedule=cosine", "base", "cosine schedule falls over all of its steps"},
        {"base.schedule=linear", "base", "linear schedule falls over all of its steps"},
        {"base.schedule=step", "base", "milestones"},
        {"base.warmup=51", "base", "warm-up"},
        {"cold.warmup=1", "cold", "warm-up"}, /* how many steps its epochs are is not known here */
        {"zero.preference_last=0.5", "zero", NULL},
        {"zero={preference_last: 0.5, general_share: 0.1}", "zero", "preference_last"},
        {"zero={preference_last: 1, general_share: 0.1}", "zero", NULL},
        {"teach.rival_lrs=[1e-3]", "teach", "rivals"},
        {"cold={stop_at_pass1: [0.2, 0.5], eval_every: 5}", "cold", "pass@1"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        Recipe *r = parse(list[i].set);
        const char *why = recipe_fixed_length(recipe_stage(r, list[i].stage));
        if (!why != !list[i].words || (why && !strstr(why, list[i].words)))
            fail_msg("%s: %s", list[i].set ? list[i].set : list[i].stage, why ? why : "can go on");
        free(r);
    }
}

static void comparisons(void **state)
{
    (void)state;
    static const struct {
        const char *then, *now, *stage, *why; /* stage NULL: not longer */
    } list[] = {
        {NULL, "base.steps=200", "base", ""},
        {NULL, "base.steps=100", NULL, ""},
        {NULL, "base.steps=99", NULL, ""},
        {"base.steps=200", NULL, NULL, ""},
        {NULL, "cold.epochs=3", "cold", ""},
        {NULL, "cold.steps=50", NULL, ""}, /* epochs then, steps now: another length, longer or not */
        {NULL, "zero={steps: 30, lr: 1e-5}", NULL, "stages.zero.lr is 1e-05 here and 0.0003 there"},
        {NULL, "stages={base: {steps: 200}, zero: {steps: 30}}", "base", ""},
        {NULL, "stages={base: {steps: 200}, zero: {steps: 10}}", NULL, "stages.zero.steps is 10 here and 20 there"},
        {"zero.schedule=cosine", "zero={schedule: cosine, steps: 30}", NULL,
         "stage zero cannot be trained longer: its cosine"},
        {"base.warmup=60", "base={warmup: 60, steps: 200}", NULL, "stage base cannot be trained longer: its warm-up"},
        {NULL, "seed=1", NULL, ""},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        Recipe *a = parse(list[i].then), *b = parse(list[i].now);
        char *then = recipe_write(a), *now = recipe_write(b), stage[RECIPE_NAME] = "", why[300];
        bool longer = recipe_longer(then, now, stage, why, sizeof why);
        if (longer != !!list[i].stage || (longer && strcmp(stage, list[i].stage)) || !strstr(why, list[i].why) ||
            (!list[i].why[0] && why[0]))
            fail_msg("%s: %d %s %s", list[i].now ? list[i].now : list[i].then, longer, stage, why);
        free(a);
        free(b);
        free(then);
        free(now);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fixed_lengths), cmocka_unit_test(comparisons)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
