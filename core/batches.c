/* Ragged batches out of token sequences. */
#include "core/batches.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

static void grow(int32_t **list, int *capacity, int need)
{
    if (need <= *capacity) return;
    int bigger = 2 * *capacity > need ? 2 * *capacity : need;
    *list = realloc(*list, (size_t)bigger * sizeof **list);
    CHECK(*list != NULL);
    *capacity = bigger;
}

void batch_reset(BatchBuilder *b)
{
    b->n = b->nseq = b->m = 0;
}

int batch_add_spans(BatchBuilder *b, const int32_t *ids, int n, const TokenSpan *spans, int n_spans)
{
    int predicted = 0, start = b->m, capacity = b->rows_capacity;
    CHECK(n > 0);
    for (int k = 0; k < n_spans; k++) {
        CHECK(spans[k].first >= 1 && spans[k].first <= spans[k].end && spans[k].end <= n);
        predicted += spans[k].end - spans[k].first;
    }
    grow(&b->ids, &b->ids_capacity, b->n + n);
    grow(&b->offsets, &b->offsets_capacity, b->nseq + 2);
    grow(&b->rows, &capacity, b->m + predicted);
    grow(&b->targets, &b->rows_capacity, b->m + predicted);
    b->offsets[0] = 0;
    memcpy(b->ids + b->n, ids, (size_t)n * sizeof *ids);
    for (int k = 0; k < n_spans; k++)
        for (int i = spans[k].first; i < spans[k].end; i++, b->m++) {
            b->rows[b->m] = b->n + i - 1;
            b->targets[b->m] = ids[i];
        }
    b->n += n;
    b->offsets[++b->nseq] = b->n;
    return start;
}

int batch_add(BatchBuilder *b, const int32_t *ids, int n, int first)
{
    CHECK(first >= 1);
    TokenSpan predicted = {first, n};
    return batch_add_spans(b, ids, n, &predicted, n > first);
}

bool ids_fit(const int32_t *ids, int n, const ModelConfig *c, Status *st)
{
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= c->V)
            return fail(
                st,
                "token %d has the id %d, but the model's embedding has %d rows: the tokenizer has tokens that the "
                "model was not resized for",
                i + 1, (int)ids[i], c->V);
    return true;
}

bool batch_fits(const BatchBuilder *b, const ModelConfig *c, Status *st)
{
    for (int s = 0; s < b->nseq; s++) {
        int n = b->offsets[s + 1] - b->offsets[s];
        if (n > c->max_positions)
            return fail(
                st, "sequence %d has %d tokens, but the model's max_position_embeddings is %d: leave it out or cut it",
                s, n, c->max_positions);
        if (!ids_fit(b->ids + b->offsets[s], n, c, st)) return fail_prefix(st, "sequence %d", s);
    }
    return true;
}

Batch batch_view(const BatchBuilder *b)
{
    return (Batch){b->n, b->nseq, b->ids, b->offsets};
}

Predictions batch_predictions(const BatchBuilder *b)
{
    return (Predictions){b->m, b->rows, b->targets};
}

void batch_free(BatchBuilder *b)
{
    free(b->ids);
    free(b->offsets);
    free(b->rows);
    free(b->targets);
    *b = (BatchBuilder){0};
}
