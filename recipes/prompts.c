#include "recipes/prompts.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"

void prompt_encode(const Tokenizer *t, const char *prompt, Ids *out)
{
    char *text = prompt_render(prompt);
    tokenizer_encode(t, text, strlen(text), out);
    free(text);
}

void document_encode(const Tokenizer *t, const char *rendered_prompt, const char *completion, Ids *out, int *first)
{
    tokenizer_encode(t, rendered_prompt, strlen(rendered_prompt), out);
    *first = out->n;
    tokenizer_encode(t, completion, strlen(completion), out);
    if (tokenizer_eos(t) >= 0) ids_push(out, tokenizer_eos(t));
}

char *completion_text(const Tokenizer *t, const Completion *c)
{
    return tokenizer_decode(t, c->ids, c->truncated ? c->n : c->n - 1, true);
}

void prompts_draw(PromptSet *s, const Tokenizer *t, const CorpusSpec *c, uint32_t seed, Split split, uint64_t first, int n)
{
    *s = (PromptSet){.n = n};
    s->problems = calloc((size_t)n, sizeof *s->problems);
    s->prompts = calloc((size_t)n, sizeof *s->prompts);
    s->storage = calloc((size_t)n, sizeof *s->storage);
    CHECK(s->problems && s->prompts && s->storage);
    for (int i = 0; i < n; i++) {
        corpus_problem(&s->problems[i], c, seed, split, first + (uint64_t)i);
        prompt_encode(t, s->problems[i].prompt, &s->storage[i]);
        s->prompts[i] = (RolloutPrompt){s->storage[i].ids, s->storage[i].n, (uint32_t)(first + (uint64_t)i)};
    }
}

void prompts_free(PromptSet *s)
{
    for (int i = 0; i < s->n; i++) {
        problem_free(&s->problems[i]);
        free(s->storage[i].ids);
    }
    free(s->problems);
    free(s->prompts);
    free(s->storage);
    *s = (PromptSet){0};
}
