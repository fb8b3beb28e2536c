/* Pairs of tokens and experts that a device has no room for. */
#include "core/token_drop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

/* A pair that may be dropped. */
typedef struct Pair {
    float score;
    int32_t at; /* n K + k */
} Pair;

/* The lowest score first; of equal ones the last pair. */
static int before(const void *a, const void *b)
{
    const Pair *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->at > y->at ? -1 : x->at < y->at;
}

/* The host's copy of n floats of the device, to be written; write_back puts it there. */
static float *host_copy(Engine *e, float *device, size_t n)
{
    return (float *)(uintptr_t)engine_download(e, device, n * sizeof(float));
}

static void write_back(Engine *e, float *device, const float *host, size_t n)
{
    if (device != host) e->ops->device.upload(e->backend, device, host, n * sizeof(float));
}

void token_drop(Engine *e, TokenDrop *d, Routing *r, size_t n)
{
    size_t E = (size_t)e->config->E, K = (size_t)e->config->K, pairs = n * K;
    int block = e->config->E / d->devices;
    CHECK(d->devices > 0 && e->config->E % d->devices == 0);
    size_t cap = (size_t)ceil((double)d->capacity * (double)pairs / d->devices);
    EngineMark mark = engine_mark(e);
    const float *scores = engine_download(e, r->scores, n * E * sizeof *scores);
    const int32_t *idx = engine_download(e, r->idx, pairs * sizeof *idx);
    float *weights = host_copy(e, r->weights, pairs);
    Pair *list = arena_alloc(&e->host, pairs * sizeof *list);
    d->pairs += (long)pairs;
    for (int device = 0; device < d->devices; device++) {
        size_t count = 0, free_to_go = 0;
        for (size_t p = 0; p < pairs; p++) {
            if (idx[p] / block != device) continue;
            count++;
            if (!d->kept[p / K]) list[free_to_go++] = (Pair){scores[p / K * E + (size_t)idx[p]], (int32_t)p};
        }
        if (count <= cap) continue;
        size_t over = count - cap < free_to_go ? count - cap : free_to_go;
        qsort(list, free_to_go, sizeof *list, before);
        for (size_t i = 0; i < over; i++) weights[list[i].at] = 0.0f;
        d->dropped += (long)over;
    }
    write_back(e, r->weights, weights, pairs);
    engine_release(e, mark);
}

void token_drop_bwd(Engine *e, const Routing *r, Mat dweights)
{
    size_t pairs = dweights.rows * dweights.cols;
    EngineMark mark = engine_mark(e);
    const float *weights = engine_download(e, r->weights, pairs * sizeof *weights);
    float *d = host_copy(e, dweights.p, pairs);
    for (size_t p = 0; p < pairs; p++)
        if (weights[p] == 0.0f) d[p] = 0.0f;
    write_back(e, dweights.p, d, pairs);
    engine_release(e, mark);
}
