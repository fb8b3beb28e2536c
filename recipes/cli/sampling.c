/* The sampling options of generate, chat and eval as a rollout's specification. */
#include "recipes/cli/sampling.h"

enum { MOST_SLOTS = 32 };

Sampling sampling_defaults(void)
{
    return (Sampling){.temperature = 0.6, .top_p = 0.95, .max_tokens = 256, .seed = 1};
}

RolloutSpec sampling_spec(const Sampling *s, int n)
{
    return (RolloutSpec){
        .slots = n < MOST_SLOTS ? n : MOST_SLOTS,
        .samples = 1,
        .max_tokens = s->max_tokens,
        .cache = (CacheKind)s->cache,
        .draft = s->draft,
        .sampling = {.temperature = (float)s->temperature, .top_p = (float)s->top_p, .top_k = s->top_k},
        .seed = (uint32_t)s->seed,
        .purpose = RNG_ROLLOUT};
}
