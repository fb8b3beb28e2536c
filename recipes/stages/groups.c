/* Sampling and scoring of the groups of an RL step. */
#include "recipes/stages/groups.h"
#include "core/ops/ops_clocked.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/losses/grpo.h"
#include "core/rollout/routes.h"
#include "recipes/model/prompts.h"
#include "recipes/run/progress.h"

static uint16_t *copy_routes(const uint16_t *from, int tokens, size_t each)
{
    if (!from) return NULL;
    size_t bytes = (size_t)tokens * each * sizeof *from;
    uint16_t *out = malloc(bytes + 1);
    CHECK(out != NULL);
    return memcpy(out, from, bytes);
}

void sample_fill(Sample *s, const Completion *c, const Voice *v, const Problem *p)
{
    s->n = c->n;
    s->truncated = c->truncated;
    s->ids = malloc((size_t)c->n * sizeof *s->ids);
    s->logprobs = malloc((size_t)c->n * sizeof *s->logprobs);
    CHECK(s->ids && s->logprobs);
    memcpy(s->ids, c->ids, (size_t)c->n * sizeof *s->ids);
    memcpy(s->logprobs, c->logprobs, (size_t)c->n * sizeof *s->logprobs);
    s->text = completion_text(v, c);
    Parsed parsed = completion_parse(s->text);
    s->format_ok = parsed.format_ok && !c->truncated;
    s->thinks = parsed.think_length > 0;
    s->language = s->thinks ? task_language_share(p, parsed.think, parsed.think_length) : 1.0f;
}

bool reward_scores_finite(const RewardModel *m, const float *score, int n, Status *st)
{
    for (int i = 0; i < n; i++)
        if (!isfinite(score[i]))
            return fail(st, "the %s reward model gives %g: its weights are no numbers; train it again with a lower lr",
                        m->answer_only ? "helpful" : "safety", (double)score[i]);
    return true;
}

/* Values of one reward model for the samples it applies to. */
static bool model_scores(const GroupSource *s, RewardModel *m, const Group *groups, int n, bool helpful,
                         RewardInput *in, Status *st)
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
    bool ok = reward_model_scores(m, ids.ids, offsets, count, score, st) && reward_scores_finite(m, score, count, st);
    for (int i = 0; i < count; i++) *(helpful ? &in[of[i]].helpful : &in[of[i]].safe) = score[i];
    free(score);
    free(of);
    free(offsets);
    free(ids.ids);
    return ok;
}

/* Whether rollouts of this model keep the choices of experts: to be replayed, or counted where a later forward would not show
 * them (the bf16 copy's would). */
static bool keeps_routes(const RecipeRl *rl, const ModelConfig *c)
{
    return c->E && (rl->replay_routing || rl->cache == CACHE_LATENT);
}

static RolloutSpec rollout_spec(const GroupSource *s, int64_t step)
{
    RolloutSpec spec = {.slots = s->slots,
                        .samples = s->rl->group,
                        .max_tokens = s->rl->max_tokens,
                        .cache = s->rl->cache,
                        .draft = s->rl->draft,
                        .sampling = {.temperature = (float)s->rl->temperature, .top_p = 1},
                        .seed = s->run->recipe->seed,
                        .stage = s->rng_stage,
                        .step = (uint32_t)step,
                        .purpose = RNG_ROLLOUT,
                        .cancel = s->run->cancel};
    voice_rollout(&s->run->voice, &spec);
    return spec;
}

/* The group of problem i of the set, which gives it its problem and prompt; c: its G completions, with so many choices of
 * experts a token. */
static Group take_group(PromptSet *set, int i, const Completion *c, int G, const Voice *v, size_t routes)
{
    Group g = {.problem = set->problems[i], .prompt = set->storage[i], .index = set->prompts[i].index};
    set->problems[i] = (Problem){0};
    set->storage[i] = (Ids){0};
    g.samples = calloc((size_t)G, sizeof *g.samples);
    CHECK(g.samples != NULL);
    for (int k = 0; k < G; k++) {
        sample_fill(&g.samples[k], &c[k], v, &g.problem);
        g.samples[k].routes = copy_routes(c[k].routes, c[k].n - 1, routes);
    }
    g.routes = copy_routes(c[0].prompt_routes, g.prompt.n, routes);
    return g;
}

bool groups_sample(Group *out, const GroupSource *s, Policy *p, const GroupDraw *draw, RolloutStats *stats, Status *st)
{
    int n = draw->n, G = s->rl->group;
    PromptSet set;
    if (!prompts_draw(&set, &s->run->voice, s->mix, s->data_seed, SPLIT_TRAIN, (uint64_t)draw->first, n, st))
        return false;
    Completion *c = calloc((size_t)n * (size_t)G, sizeof *c);
    CHECK(c != NULL);
    RolloutSpec spec = rollout_spec(s, draw->step);
    spec.routes = keeps_routes(s->rl, &p->config);
    const char *before = ops_clocked_phase(s->run->machine.times, "rollout");
    Policy *sampling = policy_that_samples(p, s->rl->rollout_bf16);
    bool ok =
        prompts_ask(&set, st) && rollout_run(sampling->sampler, &sampling->w, &spec, set.prompts, n, c, stats, st);
    for (int i = 0; i < n && ok; i++)
        out[i] = take_group(&set, i, &c[i * G], G, &s->run->voice, routes_each(&p->config));
    ops_clocked_phase(s->run->machine.times, before);
    free(c);
    prompts_free(&set);
    return ok;
}

static bool usable(double reward)
{
    return fabs(reward) <= LARGEST_REWARD; /* false for NAN */
}

static bool check_sample(const Group *g, const Sample *s, const RewardSpec *rewards, int n_rewards, Status *st)
{
    for (int i = 0; i < n_rewards; i++) {
        double value = (double)s->reward.parts[i], weighted = value * (double)rewards[i].weight;
        if (!s->reward.applies[i] || (usable(value) && usable(weighted))) continue;
        const char *command =
            rewards[i].kind == REWARD_EXTERNAL ? rewards[i].command : reward_kind_name(rewards[i].kind);
        return fail(st, "reward %s (%s, weight %g) is %g for the prompt \"%.60s\"; a reward may be %.0e at most",
                    rewards[i].name, command, (double)rewards[i].weight, value, g->problem.prompt,
                    (double)LARGEST_REWARD);
    }
    if (usable((double)s->reward.total)) return true;
    return fail(st, "the rewards add up to %g for the prompt \"%.60s\"; a reward may be %.0e at most",
                (double)s->reward.total, g->problem.prompt, (double)LARGEST_REWARD);
}

bool groups_check(const Group *groups, int n, int G, const RewardSpec *rewards, int n_rewards, Status *st)
{
    for (int g = 0; g < n; g++)
        for (int i = 0; i < G; i++)
            if (!check_sample(&groups[g], &groups[g].samples[i], rewards, n_rewards, st)) return false;
    return true;
}

/* What the reward programs gave reason to say. */
static void tell(const GroupSource *s)
{
    char *notice = reward_notice(s->rewards);
    if (notice) progress_note(s->run->progress, "%s", notice);
    free(notice);
}

bool groups_score(Group *groups, int n, const GroupSource *s, Status *st)
{
    int G = s->rl->group;
    RewardInput *in = calloc((size_t)(n * G), sizeof *in);
    RewardOutput *out = calloc((size_t)(n * G), sizeof *out);
    CHECK(in && out);
    const char *before = ops_clocked_phase(s->run->machine.times, "rewards");
    for (int i = 0; i < n * G; i++) {
        const Sample *q = &groups[i / G].samples[i % G];
        in[i] = (RewardInput){&groups[i / G].problem, q->text, q->n, s->rl->max_tokens, q->truncated, NAN, NAN};
    }
    bool ok = (!s->helpful || model_scores(s, s->helpful, groups, n, true, in, st)) &&
              (!s->safety || model_scores(s, s->safety, groups, n, false, in, st));
    ok = ok && reward_score(s->rewards, in, out, n * G, st);
    tell(s);
    for (int i = 0; i < n * G && ok; i++) groups[i / G].samples[i % G].reward = out[i];
    ok = ok && groups_check(groups, n, G, s->specs->list, s->specs->n, st);
    ops_clocked_phase(s->run->machine.times, before);
    free(in);
    free(out);
    return ok;
}

/* Samples whose reward could not be had are left out of their group: no advantage, no part in anybody's baseline. */
void groups_advantages(Group *groups, int n, int G, bool by_std)
{
    float *reward = calloc((size_t)G, sizeof *reward), *advantage = calloc((size_t)G, sizeof *advantage);
    CHECK(reward && advantage);
    for (int g = 0; g < n; g++) {
        Sample *samples = groups[g].samples;
        int had = 0;
        for (int i = 0; i < G; i++)
            if (!samples[i].reward.failed) reward[had++] = samples[i].reward.total;
        groups[g].signal = had > 1 && grpo_advantages(advantage, reward, had, by_std);
        for (int i = 0, at = 0; i < G; i++)
            samples[i].advantage = samples[i].reward.failed || !groups[g].signal ? 0 : advantage[at++];
    }
    free(reward);
    free(advantage);
}

/* Samples that have a reward among the G of each of n groups. */
static int had_rewards(const Group *groups, int n, int G)
{
    int had = 0;
    for (int i = 0; i < n * G; i++) had += !groups[i / G].samples[i % G].reward.failed;
    return had;
}

/* The batch's baseline over n groups of which `had` samples have a reward, as one set of them. */
static void batch_advantages(Group *groups, int n, int G, int had, GrpoKind kind)
{
    float *reward = calloc((size_t)had + 1, sizeof *reward), *advantage = calloc((size_t)had + 1, sizeof *advantage);
    CHECK(reward && advantage);
    int at = 0;
    bool whole = had == n * G;
    for (int i = 0; i < n * G; i++) {
        const Sample *s = &groups[i / G].samples[i % G];
        if (s->reward.failed) continue;
        reward[at] = s->reward.total;
        advantage[at++] = s->advantage;
    }
    if (had > 1) grpo_batch_advantages(advantage, reward, kind, whole ? n : 1, whole ? G : had);
    at = 0;
    for (int i = 0; i < n * G; i++) {
        Group *g = &groups[i / G];
        if (g->samples[i % G].reward.failed) continue;
        g->samples[i % G].advantage = advantage[at];
        if (advantage[at++] != 0.0f) g->signal = true;
    }
    free(reward);
    free(advantage);
}

void groups_batch_advantages(Group *groups, int n, int G, GrpoKind kind)
{
    int had = had_rewards(groups, n, G);
    if (had == n * G || kind == GRPO_REINFORCE_PP) {
        batch_advantages(groups, n, G, had, kind);
        return;
    }
    for (int g = 0; g < n; g++) batch_advantages(&groups[g], 1, G, had_rewards(&groups[g], 1, G), kind);
}

int groups_replace(Group *groups, Group *fresh, int n, int G)
{
    int next = 0, replaced = 0;
    for (int g = 0; g < n; g++) {
        if (groups[g].signal) continue;
        Group *other = &fresh[next++];
        if (!other->signal) continue;
        group_free(&groups[g], G);
        groups[g] = *other;
        *other = (Group){0};
        replaced++;
    }
    groups_free(fresh, next, G);
    return replaced;
}

void group_free(Group *g, int G)
{
    for (int i = 0; i < G && g->samples; i++) {
        free(g->samples[i].ids);
        free(g->samples[i].logprobs);
        free(g->samples[i].entropy);
        free(g->samples[i].ref_logprobs);
        free(g->samples[i].trainer_logprobs);
        free(g->samples[i].correction);
        free(g->samples[i].routes);
        free(g->samples[i].advantages);
        free(g->samples[i].values);
        free(g->samples[i].returns);
        free(g->samples[i].text);
    }
    free(g->samples);
    free(g->prompt.ids);
    free(g->routes);
    problem_free(&g->problem);
    *g = (Group){0};
}

void groups_free(Group *groups, int n, int G)
{
    for (int g = 0; g < n; g++) group_free(&groups[g], G);
}
