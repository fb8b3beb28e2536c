/* The sampling options of generate, chat and eval as a rollout's specification. */
#include "recipes/cli/sampling.h"

#include <string.h>

enum { MOST_SLOTS = 32 };

Sampling sampling_defaults(void)
{
    return (Sampling){.temperature = 0.6, .top_p = 0.95, .max_tokens = 256, .seed = 1, .cache = "exact"};
}

bool sampling_check(const Sampling *s, Status *st)
{
    return !strcmp(s->cache, "exact") || !strcmp(s->cache, "latent") ||
           fail(st, "--cache %s: exact or latent", s->cache);
}

CacheKind sampling_cache(const Sampling *s)
{
    return strcmp(s->cache, "latent") ? CACHE_EXACT : CACHE_LATENT;
}

RolloutSpec sampling_spec(const Sampling *s, int n)
{
    return (RolloutSpec){
        .slots = n < MOST_SLOTS ? n : MOST_SLOTS,
        .samples = 1,
        .max_tokens = s->max_tokens,
        .cache = sampling_cache(s),
        .sampling = {.temperature = (float)s->temperature, .top_p = (float)s->top_p, .top_k = s->top_k},
        .seed = (uint32_t)s->seed,
        .purpose = RNG_ROLLOUT};
}
