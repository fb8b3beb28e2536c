/* The choices of experts that a sampler made, kept with its completions: what training replays, or counts (recipes' key
 * replay_routing). A token's are those of its row, the forward that it goes into; a completion's last token goes into none. */
#ifndef CORE_ROUTES_H
#define CORE_ROUTES_H

#include "core/rollout/rollout.h"
#include "core/rollout/rollout_rows.h"

/* Zero-initialise. 2 bytes a choice: K of every MoE layer a token. */
typedef struct Routes {
    size_t each;                 /* choices a token, layer by layer; 0: none are kept */
    uint16_t *samples, *prompts; /* of completions at item * max_tokens, of prompts at first[p] */
    size_t *first;               /* [prompts] */
    size_t samples_room, prompts_room;
    int first_room;
} Routes;

/* Choices of experts a token of this model has. */
size_t routes_each(const ModelConfig *c);

/* Room for a rollout of n prompts and `tokens` of completions. */
void routes_reserve(Routes *r, const ModelConfig *c, size_t tokens, const RolloutPrompt *prompts, int n);
void routes_free(Routes *r);

/* Where a forward of n rows puts its choices, in the arena; NULL: none are kept. */
int32_t *routes_rows(Engine *e, const Routes *r, size_t n);
/* to[each] = what row number `row` of n chose. chosen: of routes_rows, on the host. */
void routes_take(const Routes *r, const ModelConfig *c, uint16_t *to, const int32_t *chosen, size_t row, size_t n);

#endif
