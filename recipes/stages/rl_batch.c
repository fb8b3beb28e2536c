/* From groups to the rows of an update. */
#include "recipes/stages/rl_batch.h"

#include <stdlib.h>

#include "core/base/check.h"
#include "core/rollout/routes.h"
#include "recipes/stages/documents.h"

RlPicked rl_pick(const Group *groups, int n, const RecipeRl *rl)
{
    int G = rl->group, all = n * G;
    GrpoConfig config = rl_grpo_config(rl);
    RlPicked p = {malloc((size_t)all * sizeof *p.list), 0, malloc((size_t)all * sizeof *p.weight)};
    int *lengths = malloc((size_t)all * sizeof *lengths);
    CHECK(p.list && p.weight && lengths);
    for (int i = 0; i < all; i++) {
        const Group *g = &groups[i / G];
        const Sample *s = &g->samples[i % G];
        bool failed = s->reward.failed; /* no reward: it is not trained on */
        lengths[i] = failed || (rl->mask_truncated && s->truncated) ? 0 : s->n;
        if (g->signal && !failed) p.list[p.n++] = i;
    }
    grpo_token_weights(p.weight, &config, lengths, all);
    free(lengths);
    return p;
}

void rl_picked_free(RlPicked *p)
{
    free(p->list);
    free(p->weight);
    *p = (RlPicked){0};
}

int rl_part_count(const RlPicked *p, const RecipeRl *rl)
{
    return rl->mini_batches < p->n ? rl->mini_batches : p->n;
}

void rl_order(int *order, const RlPicked *p, int parts, uint32_t seed, uint32_t pass)
{
    for (int i = 0; i < p->n; i++) order[i] = p->list[parts > 1 ? keyed_order(i, p->n, seed, pass) : i];
}

RlPart rl_part(const int *order, int n, int k, int parts)
{
    int from = (int)((int64_t)n * k / parts), to = (int)((int64_t)n * (k + 1) / parts);
    return (RlPart){order + from, to - from, (float)parts};
}

static void batch_room(RlBatch *b, int m)
{
    if (m <= b->capacity) return;
    b->capacity = m + m / 2;
    size_t n = (size_t)b->capacity;
    float **lists[] = {&b->weight, &b->advantage,  &b->old_lp, &b->ref_lp, &b->ratio,
                       &b->kl,     &b->correction, &b->value,  &b->returns};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        *lists[i] = realloc(*lists[i], n * sizeof(float));
        CHECK(*lists[i] != NULL);
    }
    b->flags = realloc(b->flags, n);
    b->output = realloc(b->output, n * sizeof *b->output);
    CHECK(b->flags && b->output);
}

static void outputs_room(RlBatch *b, int n)
{
    if (n <= b->outputs_capacity) return;
    b->outputs_capacity = n + n / 2;
    b->outputs = realloc(b->outputs, (size_t)b->outputs_capacity * sizeof *b->outputs);
    CHECK(b->outputs != NULL);
}

static void add_completion(RlBatch *b, const Group *g, const Sample *s, float weight)
{
    Ids ids = {0};
    for (int i = 0; i < g->prompt.n; i++) ids_push(&ids, g->prompt.ids[i]);
    for (int i = 0; i < s->n; i++) ids_push(&ids, s->ids[i]);
    int at = batch_add(&b->tokens, ids.ids, ids.n, g->prompt.n);
    free(ids.ids);
    batch_room(b, b->tokens.m);
    for (int i = 0; i < s->n; i++) {
        b->weight[at + i] = weight;
        b->advantage[at + i] = s->advantages ? s->advantages[i] : s->advantage;
        b->value[at + i] = s->values ? s->values[i] : 0.0f;
        b->returns[at + i] = s->returns ? s->returns[i] : 0.0f;
        b->old_lp[at + i] = s->trainer_logprobs ? s->trainer_logprobs[i] : s->logprobs[i];
        b->correction[at + i] = s->correction ? s->correction[i] : 1.0f;
        b->output[at + i] = b->n_outputs;
    }
    outputs_room(b, ++b->n_outputs);
}

void rl_batch_fill(RlBatch *b, const Group *groups, int G, const RlPicked *picked, const RlPart *part)
{
    batch_reset(&b->tokens);
    b->n_outputs = 0;
    for (int i = 0; i < part->n; i++) {
        int at = part->list[i];
        const Group *g = &groups[at / G];
        add_completion(b, g, &g->samples[at % G], picked->weight[at] * part->scale);
    }
}

/* Row `row` of n: what a token chose, or -1: it was not kept. */
static void put_route(int32_t *routes, const ModelConfig *c, size_t row, size_t n, const uint16_t *from)
{
    size_t K = (size_t)c->K, each = routes_each(c);
    for (size_t i = 0; i < each; i++) routes[(i / K * n + row) * K + i % K] = from ? from[i] : -1;
}

const RoutingGiven *rl_batch_routes(RlBatch *b, const ModelConfig *c, const Group *groups, int G, const RlPart *part)
{
    size_t each = routes_each(c), n = (size_t)b->tokens.n, row = 0;
    if (!part->n || !groups[part->list[0] / G].routes) return NULL;
    b->routes = realloc(b->routes, n * each * sizeof *b->routes);
    CHECK(b->routes != NULL);
    for (int i = 0; i < part->n; i++) {
        const Group *g = &groups[part->list[i] / G];
        const Sample *s = &g->samples[part->list[i] % G];
        for (int t = 0; t < g->prompt.n; t++) put_route(b->routes, c, row++, n, g->routes + (size_t)t * each);
        for (int t = 0; t < s->n; t++)
            put_route(b->routes, c, row++, n, t + 1 < s->n ? s->routes + (size_t)t * each : NULL);
    }
    CHECK(row == n);
    b->given = (RoutingGiven){b->routes};
    return &b->given;
}

void rl_batch_free(RlBatch *b)
{
    float *lists[] = {b->weight, b->advantage,  b->old_lp, b->ref_lp, b->ratio,
                      b->kl,     b->correction, b->value,  b->returns};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) free(lists[i]);
    free(b->flags);
    free(b->output);
    free(b->outputs);
    free(b->routes);
    batch_free(&b->tokens);
    *b = (RlBatch){0};
}

GrpoConfig rl_grpo_config(const RecipeRl *rl)
{
    return (GrpoConfig){.kind = rl->loss,
                        .clip_low = (float)rl->clip_low,
                        .clip_high = (float)rl->clip_high,
                        .beta = rl->kl_in_reward ? 0.0f : (float)rl->beta,
                        .estimator = rl->kl,
                        .log_clamp = (float)rl->kl_clamp,
                        .entropy_bonus = (float)rl->entropy_bonus,
                        .max_length = rl->max_tokens};
}
