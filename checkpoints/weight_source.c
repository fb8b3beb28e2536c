/* Parameters of a source, whole or a few rows at a time. */
#include "checkpoints/weight_source.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20 }; /* elements at a time, 4 MB */

static bool block_read(const void *from, const Param *p, float *out, Status *st)
{
    (void)st;
    memcpy(out, (const float *)from + p->offset, p->count * sizeof *out);
    return true;
}

static bool block_rows(const void *from, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    (void)st;
    memcpy(out, (const float *)from + p->offset + row * p->cols, n * p->cols * sizeof *out);
    return true;
}

WeightSource block_source(const float *block)
{
    return (WeightSource){.read = block_read, .from = block, .rows = block_rows};
}

static bool states_read(const void *from, const Param *p, float *out, Status *st)
{
    (void)st;
    memcpy(out, (const float *)from + p->state, p->count * sizeof *out);
    return true;
}

WeightSource states_source(const float *block)
{
    return (WeightSource){.read = states_read, .from = block};
}

static float *room(const Param *p, size_t count, Status *st)
{
    float *w = malloc(count * sizeof *w);
    if (!w) fail(st, "no memory for %.1f GB of tensor %s", (double)(count * sizeof *w) / 1e9, p->name);
    return w;
}

float *source_read(const WeightSource *s, const Param *p, Status *st)
{
    float *w = room(p, p->count, st);
    if (!w || s->read(s->from, p, w, st)) return w;
    free(w);
    return NULL;
}

static bool take_whole(const WeightSource *s, const Param *p, TakeRows *take, void *to, Status *st)
{
    float *w = source_read(s, p, st);
    bool ok = w && take(to, w, 0, p->rows, st);
    free(w);
    return ok;
}

bool source_rows(const WeightSource *s, const Param *p, TakeRows *take, void *to, Status *st)
{
    size_t n = p->cols < PIECE ? PIECE / p->cols : 1;
    if (!s->rows || n >= p->rows) return take_whole(s, p, take, to, st);
    float *w = room(p, n * p->cols, st);
    bool ok = w != NULL, whole = false;
    for (size_t row = 0; ok && row < p->rows; row += n) {
        size_t these = p->rows - row < n ? p->rows - row : n;
        ok = s->rows(s->from, p, row, these, w, st);
        if (!ok && row == 0 && !st->failed) whole = true;
        ok = ok && take(to, w, row, these, st);
    }
    free(w);
    return whole ? take_whole(s, p, take, to, st) : ok;
}
