/* Finite sets of encoded training sequences, and the order of an epoch. */
#include "recipes/stages/documents.h"

#include <stdlib.h>

#include "core/base/check.h"
#include "core/base/philox.h"

static bool keep(Documents *d, Sequence *s, int max_length, Status *st)
{
    if (s->n > max_length || s->n_spans == 0) {
        d->dropped++;
        sequence_free(s);
        return true;
    }
    if (d->n == d->capacity) {
        int capacity = d->capacity ? 2 * d->capacity : 256;
        Sequence *list = realloc(d->list, (size_t)capacity * sizeof *d->list);
        if (!list) return fail(st, "no memory for more than %d training documents: ask for fewer traces", d->n);
        d->list = list;
        d->capacity = capacity;
    }
    d->list[d->n++] = *s;
    *s = (Sequence){0};
    return true;
}

bool documents_add(Documents *d, const Voice *v, const Document *doc, Turns turns, int max_length, Status *st)
{
    Sequences made = {0};
    if (!document_teaches(doc)) {
        d->without_reply++;
        return true;
    }
    bool ok = document_encode(v, doc, turns, &made, st);
    for (int i = 0; i < made.n && ok; i++) ok = keep(d, &made.list[i], max_length, st);
    sequences_free(&made);
    return ok;
}

void documents_free(Documents *d)
{
    for (int i = 0; i < d->n; i++) sequence_free(&d->list[i]);
    free(d->list);
    *d = (Documents){0};
}

/* A bijection of 0 .. n - 1 keyed by (seed, epoch): a four-round Feistel network on the next even power of two, walked until
 * it lands inside. */
static uint32_t permute(uint32_t i, uint32_t n, uint32_t seed, uint32_t epoch)
{
    uint32_t half = 1;
    while ((1u << 2 * half) < n) half++;
    uint32_t mask = (1u << half) - 1, key[2] = {seed, RNG_DATA};
    do {
        uint32_t left = i >> half, right = i & mask;
        for (uint32_t round = 0; round < 4; round++) {
            uint32_t out[4], counter[4] = {right, round, epoch, 0x5eedu};
            philox4x32(out, counter, key);
            uint32_t next = left ^ (out[0] & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

int keyed_order(int i, int n, uint32_t seed, uint32_t epoch)
{
    return (int)permute((uint32_t)i, (uint32_t)n, seed, epoch);
}

int documents_pick(const Documents *d, uint32_t seed, int64_t at)
{
    CHECK(d->n > 0);
    return keyed_order((int)(at % d->n), d->n, seed, (uint32_t)(at / d->n));
}
