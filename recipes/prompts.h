/* Problems to token ids and completions back to text: the one place that knows how a prompt is put to the model. */
#ifndef RECIPES_PROMPTS_H
#define RECIPES_PROMPTS_H

#include "core/rollout.h"
#include "data/corpus.h"
#include "data/tokenizer.h"

/* The ids a completion follows: the rendered template of the problem's prompt. */
void prompt_encode(const Tokenizer *t, const char *prompt, Ids *out);

/* A training sequence: rendered prompt, completion, end token. *first: index of the completion's first token. */
void document_encode(const Tokenizer *t, const char *rendered_prompt, const char *completion, Ids *out, int *first);

/* Text of a completion without its stop token, tags shown. Caller frees. */
char *completion_text(const Tokenizer *t, const Completion *c);

/* The problems of a rollout with their encoded prompts. */
typedef struct PromptSet {
    Problem *problems;
    RolloutPrompt *prompts; /* ids point into storage */
    Ids *storage;
    int n;
} PromptSet;

/* Problems first .. first + n - 1 of the mix; the RNG's prompt index is the problem's index. */
void prompts_draw(PromptSet *s, const Tokenizer *t, const CorpusSpec *c, uint32_t seed, Split split, uint64_t first, int n);
void prompts_free(PromptSet *s);

#endif
