/* Sampling and scoring of the groups of an RL step. */
#include "recipes/stages/groups.h"
#include "recipes/model/op_times.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/grpo.h"
#include "recipes/model/prompts.h"

static void keep_completion(Sample *s, const Completion *c, const Tokenizer *t, const Problem *p)
{
    s->n = c->n;
    s->truncated = c->truncated;
    s->ids = malloc((size_t)c->n * sizeof *s->ids);
    s->logprobs = malloc((size_t)c->n * sizeof *s->logprobs);
    CHECK(s->ids && s->logprobs);
    memcpy(s->ids, c->ids, (size_t)c->n * sizeof *s->ids);
    memcpy(s->logprobs, c->logprobs, (size_t)c->n * sizeof *s->logprobs);
    s->text = completion_text(t, c);
    Parsed parsed = completion_parse(s->text);
    s->format_ok = parsed.format_ok && !c->truncated;
    s->thinks = parsed.think_length > 0;
    s->language = s->thinks ? language_share(parsed.think, parsed.think_length, p->language) : 1.0f;
}

/* Values of one reward model for the samples it applies to. */
static void model_scores(const GroupSource *s, RewardModel *m, const Group *groups, int n, bool helpful,
                         RewardInput *in)
{
    int G = s->rl->group, count = 0;
    Ids ids = {0};
    int32_t *offsets = calloc((size_t)(n * G) + 1, sizeof *offsets);
    int *of = calloc((size_t)(n * G) + 1, sizeof *of);
    CHECK(offsets && of);
    for (int i = 0; i < n * G; i++) {
        const Group *g = &groups[i / G];
        bool wanted = helpful ? g->problem.kind == KIND_HELPFUL : g->problem.kind != KIND_REASONING;
        if (!wanted) continue;
        const Sample *q = &g->samples[i % G];
        reward_model_input(m, s->run->tokenizer, g->prompt.ids, g->prompt.n, q->ids, q->n, &ids);
        of[count] = i;
        offsets[++count] = ids.n;
    }
    float *score = calloc((size_t)count + 1, sizeof *score);
    CHECK(score != NULL);
    reward_model_scores(m, ids.ids, offsets, count, score);
    for (int i = 0; i < count; i++) *(helpful ? &in[of[i]].helpful : &in[of[i]].safe) = score[i];
    free(score);
    free(of);
    free(offsets);
    free(ids.ids);
}

static void score_groups(Group *groups, const GroupSource *s, int n, bool by_std)
{
    int G = s->rl->group;
    RewardInput *in = calloc((size_t)(n * G), sizeof *in);
    RewardOutput *out = calloc((size_t)(n * G), sizeof *out);
    float *reward = calloc((size_t)G, sizeof *reward), *advantage = calloc((size_t)G, sizeof *advantage);
    CHECK(in && out && reward && advantage);
    for (int i = 0; i < n * G; i++) {
        const Sample *q = &groups[i / G].samples[i % G];
        in[i] = (RewardInput){&groups[i / G].problem, q->text, q->n, s->rl->max_tokens, q->truncated, NAN, NAN};
    }
    if (s->helpful) model_scores(s, s->helpful, groups, n, true, in);
    if (s->safety) model_scores(s, s->safety, groups, n, false, in);
    reward_score(s->rewards, in, out, n * G);
    for (int g = 0; g < n; g++) {
        for (int i = 0; i < G; i++) {
            groups[g].samples[i].reward = out[g * G + i];
            reward[i] = out[g * G + i].total;
        }
        groups[g].signal = grpo_advantages(advantage, reward, G, by_std);
        for (int i = 0; i < G; i++) groups[g].samples[i].advantage = advantage[i];
    }
    free(in);
    free(out);
    free(reward);
    free(advantage);
}

bool groups_sample(Group *out, const GroupSource *s, Policy *p, int64_t step, int64_t first, int n, bool by_std,
                   RolloutStats *stats, Status *st)
{
    const Tokenizer *t = s->run->tokenizer;
    int G = s->rl->group;
    PromptSet set;
    prompts_draw(&set, &s->run->voice, s->mix, s->data_seed, SPLIT_TRAIN, (uint64_t)first, n);
    Completion *c = calloc((size_t)n * (size_t)G, sizeof *c);
    CHECK(c != NULL);
    RolloutSpec spec = {.slots = s->slots,
                        .samples = G,
                        .max_tokens = s->rl->max_tokens,
                        .cache = s->rl->cache,
                        .sampling = {.temperature = (float)s->rl->temperature, .top_p = 1},
                        .seed = s->run->recipe->seed,
                        .stage = s->rng_stage,
                        .step = (uint32_t)step,
                        .purpose = RNG_ROLLOUT,
                        .cancel = s->run->cancel};
    voice_rollout(&s->run->voice, &spec);
    OpTimes *times = s->run->machine.times;
    const char *before = op_times_phase(times, "rollout");
    Policy *sampling = policy_that_samples(p, &s->run->machine, s->rl->rollout_bf16);
    bool ok = rollout_run(sampling->sampler, &sampling->w, &spec, set.prompts, n, c, stats, st);
    op_times_phase(times, "rewards");
    for (int g = 0; g < n && ok; g++) {
        out[g] = (Group){.problem = set.problems[g], .prompt = set.storage[g], .index = set.prompts[g].index};
        memset(&set.problems[g], 0, sizeof set.problems[g]); /* now the group's */
        set.storage[g] = (Ids){0};
        out[g].samples = calloc((size_t)G, sizeof *out[g].samples);
        CHECK(out[g].samples != NULL);
        for (int i = 0; i < G; i++) keep_completion(&out[g].samples[i], &c[g * G + i], t, &out[g].problem);
    }
    if (ok) score_groups(out, s, n, by_std);
    op_times_phase(times, before);
    free(c);
    prompts_free(&set);
    return ok;
}

void group_free(Group *g, int G)
{
    for (int i = 0; i < G && g->samples; i++) {
        free(g->samples[i].ids);
        free(g->samples[i].logprobs);
        free(g->samples[i].entropy);
        free(g->samples[i].ref_logprobs);
        free(g->samples[i].text);
    }
    free(g->samples);
    free(g->prompt.ids);
    problem_free(&g->problem);
    *g = (Group){0};
}
