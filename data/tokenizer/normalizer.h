/* The normalizer of a tokenizer.json: what is done to a text before it is split. Normal forms (NFC, NFD, NFKC, NFKD), and what
 * SentencePiece's conversions have instead of a pre-tokenizer: Prepend and Replace. */
#ifndef DATA_NORMALIZER_H
#define DATA_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"
#include "data/json.h"

typedef struct NormalStep NormalStep;

/* Zero-initialise: changes nothing. */
typedef struct Normalizer {
    NormalStep *steps;
    int n;
} Normalizer;

/* Of the value of "normalizer" (NULL, null: none); fails naming what is not supported. */
bool normalizer_read(Normalizer *z, const Json *value, Status *st);
void normalizer_free(Normalizer *z);

/* The normalised text, as a new string; NULL when it stays as it is. begins: whether it is the beginning of what is normalised at
 * once, where Prepend adds its text. *out_length is set when a string is returned. Caller frees. */
char *normalizer_apply(const Normalizer *z, const char *text, size_t length, bool begins, size_t *out_length);

#endif
