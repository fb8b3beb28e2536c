/* Training batches put together from token sequences. */
#ifndef CORE_BATCHES_H
#define CORE_BATCHES_H

#include "core/batch.h"
#include "core/config.h"
#include "core/head.h"

/* Growing lists; zero-initialise, free with batches_free. Reset keeps the memory. */
typedef struct BatchBuilder {
    int32_t *ids, *offsets, *rows, *targets;
    int n, nseq, m;
    int ids_capacity, offsets_capacity, rows_capacity;
} BatchBuilder;

void batch_reset(BatchBuilder *b);
/* Tokens [first, end) of a sequence. */
typedef struct TokenSpan {
    int first, end;
} TokenSpan;
/* Adds a sequence of which the tokens of n ascending spans (none before token 1) are predicted. Returns the index of its first
 * prediction. */
int batch_add_spans(BatchBuilder *b, const int32_t *ids, int n, const TokenSpan *spans, int n_spans);
/* Adds a sequence; its tokens from index `first` (>= 1) on are predicted. Returns the index of its first prediction. */
int batch_add(BatchBuilder *b, const int32_t *ids, int n, int first);
/* Whether every id has a row of the model's embedding; fails naming the first that has none. */
bool ids_fit(const int32_t *ids, int n, const ModelConfig *c, Status *st);
/* Whether every id has a row of the model's embedding and every sequence fits its positions; fails naming what does not. */
bool batch_fits(const BatchBuilder *b, const ModelConfig *c, Status *st);
Batch batch_view(const BatchBuilder *b);
Predictions batch_predictions(const BatchBuilder *b);
void batch_free(BatchBuilder *b);

#endif
