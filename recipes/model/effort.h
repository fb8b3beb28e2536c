/* How long a model thinks, forced at test time (budget forcing: Muennighoff et al. 2025, arXiv:2501.19393, section
 * 3.1): a thought is closed at its budget, and, where it is to last, one that ends before is continued in place of its
 * end. */
#ifndef RECIPES_EFFORT_H
#define RECIPES_EFFORT_H

#include "core/policy.h"
#include "recipes/model/prompts.h"

typedef struct Effort {
    int budget; /* tokens of a completion up to the end of its thought; 0: as long as the model likes */
    bool lasts; /* shorter thoughts are continued until the budget, at most EFFORT_ROUNDS times */
} Effort;
enum { EFFORT_ROUNDS = 8 };

/* "low": an eighth of max_tokens; "medium": a quarter; "high": half, and it lasts; TOKENS; +TOKENS: it lasts. False:
 * neither. */
bool effort_read(const char *text, int max_tokens, Effort *out);

/* Completions that own their tokens. */
typedef struct ForcedCompletions {
    Completion *list; /* [n] of prompt p, sample g at p * samples + g, as rollout_run gives them */
    int n;
    long closed, continued; /* thoughts that were closed at the budget; ends of thoughts that were taken away */
} ForcedCompletions;
void forced_free(ForcedCompletions *f);

/* Samples spec->samples completions of every prompt as rollout_run does, their thoughts as `e` says. `goes_on` stands
 * in place of an end that comes too early ("Wait" there; the built-in families: what separates steps). Tokens that
 * were put in have log-prob 0. A completion that begins with no thought is left alone. Fails where "</think>" is not
 * one token of the model. */
bool effort_rollout(Policy *p, const Voice *v, const RolloutSpec *spec, const Effort *e, const char *goes_on,
                    const RolloutPrompt *prompts, int n, ForcedCompletions *out, RolloutStats *stats, Status *st);

#endif
