/* Bits per byte: texts cut into windows of the model's positions, some windows a forward. */
#include "recipes/model/eval_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "data/dataset.h"
#include "data/file.h"

enum { BATCH_TOKENS = 8192 };

double text_bits_per_byte(const TextEval *e)
{
    return e->bytes ? e->nats / (log(2.0) * (double)e->bytes) : 0.0;
}

static void flush(Policy *p, BatchBuilder *b, TextEval *out)
{
    if (!b->m) {
        batch_reset(b);
        return;
    }
    float *lp = malloc((size_t)b->m * sizeof *lp);
    CHECK(lp != NULL);
    Predictions predict = batch_predictions(b);
    train_log_probs(&p->engine, &p->w, batch_view(b), &predict, 1.0f, lp, NULL);
    for (int i = 0; i < b->m; i++) out->nats -= (double)lp[i];
    out->tokens += b->m;
    free(lp);
    batch_reset(b);
}

/* Bytes of n tokens as they decode. */
static long bytes_of(const Tokenizer *t, const int32_t *ids, int n)
{
    size_t length;
    free(tokenizer_decode_length(t, ids, n, true, &length));
    return (long)length;
}

static bool add_text(Policy *p, const Tokenizer *t, const char *text, size_t length, BatchBuilder *b, TextEval *out,
                     Status *st)
{
    Ids ids = {0};
    int bos = (int)tokenizer_bos(t), room = p->config.max_positions - (bos >= 0);
    tokenizer_encode(t, text, length, &ids);
    int32_t *window = malloc(((size_t)room + 1) * sizeof *window);
    CHECK(window != NULL);
    bool ok = ids_fit(ids.ids, ids.n, &p->config, st);
    long all = (long)length, skipped = 0; /* not of what the tokens decode to: <unk> is five letters */
    int32_t unknown = tokenizer_id(t, "<unk>");
    for (int i = 0; i < ids.n; i++) out->unknown += ids.ids[i] == unknown;
    for (int from = 0; from < ids.n && ok; from += room) {
        int n = ids.n - from < room ? ids.n - from : room, first = 0;
        if (bos >= 0) window[first++] = bos;
        else skipped += bytes_of(t, ids.ids + from, 1);
        memcpy(window + first, ids.ids + from, (size_t)n * sizeof *window);
        batch_add(b, window, first + n, 1);
        out->windows++;
        if (b->n >= BATCH_TOKENS) flush(p, b, out);
    }
    out->bytes += all - (skipped < all ? skipped : all);
    out->texts += ids.n > 0;
    free(window);
    free(ids.ids);
    return ok;
}

static bool is_json_lines(const char *path)
{
    size_t n = strlen(path);
    return n > 6 && !strcmp(path + n - 6, ".jsonl");
}

bool eval_text(Policy *p, const Tokenizer *t, const char *path, bool skip_bad, TextEval *out, Status *st)
{
    BatchBuilder b = {0};
    bool ok = true;
    *out = (TextEval){0};
    if (is_json_lines(path)) {
        Dataset *d = dataset_read(path, 0, skip_bad, st);
        if (!d) return false;
        for (int i = 0; i < d->n && ok; i++) {
            const DatasetRow *row = &d->rows[i];
            if (row->kind != ROW_TEXT)
                ok = fail(st, "%s: line %d is no text: rows must be {\"text\": ..}", path, row->line);
            else ok = add_text(p, t, row->completion, strlen(row->completion), &b, out, st);
            if (!ok && row->kind == ROW_TEXT) fail_prefix(st, "%s: line %d", path, row->line);
        }
        dataset_free(d);
    } else {
        size_t length;
        char *text = file_read(path, &length, st);
        ok = text && (add_text(p, t, text, length, &b, out, st) || fail_prefix(st, "%s", path));
        free(text);
    }
    if (ok) flush(p, &b, out);
    batch_free(&b);
    if (ok && !out->tokens) ok = fail(st, "%s holds no token to predict", path);
    return ok;
}
