/* Bits per byte of text: what a model's log-probs come to, comparable over tokenizers. */
#ifndef RECIPES_EVAL_TEXT_H
#define RECIPES_EVAL_TEXT_H

#include "core/policy.h"
#include "data/tokenizer/tokenizer.h"

typedef struct TextEval {
    int texts, windows; /* a text longer than the model's positions is cut into windows */
    long tokens, bytes; /* predicted; the bytes of the texts that they are */
    long unknown;       /* tokens that stand for characters without one (<unk>) */
    double nats;        /* sum of -log p over the tokens */
} TextEval;

/* -log2 p of the text a byte = nats / (ln 2 bytes). */
double text_bits_per_byte(const TextEval *e);

/* A JSONL file of rows {"text": ..}, or any other file as one text. With a BOS every token is predicted, else all but a
 * window's first. Characters that the tokenizer has no token for (<unk>) fail nothing but are what they are: their own bytes
 * count. */
bool eval_text(Policy *p, const Tokenizer *t, const char *path, bool skip_bad, TextEval *out, Status *st);

#endif
