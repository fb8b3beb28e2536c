/* Problems to token ids and completions back to text: the one place that knows how a prompt is put to the model.
 *
 * Everywhere else a rendered prompt is that of data/task.h, <bos><user>P<assistant>, with earlier turns of a conversation inside
 * P. Models of our own recipes read it as it is; for a model with a chat template it is taken apart into messages, which the
 * template renders, up to where the assistant speaks. */
#ifndef RECIPES_PROMPTS_H
#define RECIPES_PROMPTS_H

#include "core/rollout.h"
#include "data/corpus.h"
#include "recipes/model/voice.h"

/* The ids a completion follows: the rendered template of the problem's prompt. */
void prompt_encode(const Voice *v, const char *prompt, Ids *out);
/* The same from a rendered prompt. */
void prompt_encode_rendered(const Voice *v, const char *rendered_prompt, Ids *out);

/* A training sequence: rendered prompt, completion, end token. *first: index of the completion's first token, so that what the
 * assistant says is trained with its end marker, and nothing else. */
void document_encode(const Voice *v, const char *rendered_prompt, const char *completion, Ids *out, int *first);

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
void prompts_draw(PromptSet *s, const Voice *v, const CorpusSpec *c, uint32_t seed, Split split, uint64_t first, int n);
void prompts_free(PromptSet *s);

/* A rollout's sampling for this voice: its stops, and no id that stands for no token. */
void voice_rollout(const Voice *v, RolloutSpec *spec);

#endif
