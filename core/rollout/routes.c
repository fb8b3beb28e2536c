/* Choices of experts of a rollout. */
#include "core/rollout/routes.h"

#include <stdlib.h>

#include "core/base/check.h"

size_t routes_each(const ModelConfig *c)
{
    return (size_t)moe_before(c, c->L) * (size_t)c->K;
}

static void grow(uint16_t **list, size_t *room, size_t n)
{
    if (n <= *room) return;
    *list = realloc(*list, n * sizeof **list);
    CHECK(*list != NULL);
    *room = n;
}

void routes_reserve(Routes *r, const ModelConfig *c, size_t tokens, const RolloutPrompt *prompts, int n)
{
    size_t total = 0;
    r->each = routes_each(c);
    if (n > r->first_room) {
        r->first = realloc(r->first, (size_t)n * sizeof *r->first);
        CHECK(r->first != NULL);
        r->first_room = n;
    }
    for (int p = 0; p < n; p++) {
        r->first[p] = total * r->each;
        total += (size_t)prompts[p].n;
    }
    grow(&r->samples, &r->samples_room, tokens * r->each);
    grow(&r->prompts, &r->prompts_room, total * r->each);
}

void routes_free(Routes *r)
{
    free(r->samples);
    free(r->prompts);
    free(r->first);
    *r = (Routes){0};
}

int32_t *routes_rows(Engine *e, const Routes *r, size_t n)
{
    return r->each ? arena_ints(&e->arena, n * r->each) : NULL;
}

void routes_take(const Routes *r, const ModelConfig *c, uint16_t *to, const int32_t *chosen, size_t row, size_t n)
{
    size_t K = (size_t)c->K;
    for (size_t i = 0; i < r->each; i++) to[i] = (uint16_t)chosen[(i / K * n + row) * K + i % K];
}
