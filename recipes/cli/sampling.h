/* The sampling options that generate, chat and eval share. */
#ifndef RECIPES_SAMPLING_H
#define RECIPES_SAMPLING_H

#include "core/rollout/rollout.h"
#include "recipes/cli/command.h"

typedef struct Sampling {
    double temperature, top_p;
    int top_k, max_tokens, seed;
    int cache; /* CacheKind */
    int draft; /* guesses a step (generate) */
} Sampling;

Sampling sampling_defaults(void);

/* Rows of an Option table for `s`, an lvalue of type Sampling. */
#define SAMPLING_OPTIONS(s)                                                                                            \
    {"--max-tokens", "N", OPTION_INT, &(s).max_tokens, 1, 1 << 20, "longest completion (default 256)"},                \
        {"--temperature", "T", OPTION_REAL, &(s).temperature, 0, 100, "0: the likeliest token (default 0.6)"},         \
        {"--top-p", "P", OPTION_REAL, &(s).top_p, 1e-6, 1, "nucleus (default 0.95; 1: off)"},                          \
        {"--top-k", "K", OPTION_INT, &(s).top_k, 0, 1 << 20, "only the K likeliest tokens (default 0: off)"},          \
        {"--seed", "N", OPTION_INT, &(s).seed, 0, 2147483647, "of the samples (default 1)"},                           \
    {                                                                                                                  \
        "--cache", "KIND", OPTION_CHOICE, &(OptionChoice){&(s).cache, cache_kind_name, NULL}, 0, 0,                    \
            "exact (default; bit-equal to training) or latent (small, DeepSeek models)"                                \
    }

/* One sample of each of n prompts, without stop tokens. */
RolloutSpec sampling_spec(const Sampling *s, int n);

#endif
