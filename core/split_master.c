/* f32 weights as bf16 halves and back. */
#include "core/split_master.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

enum { PART = 2048 }; /* halves kept aside while a row is rewritten */

/* The high halves go to the front of the row in one pass: element i is read before its place is written. The low halves are
 * kept aside. */
void split_row(float *row, size_t n)
{
    uint16_t *half = (uint16_t *)row, kept[PART], *low = n <= PART ? kept : malloc(n * sizeof *low);
    CHECK(low != NULL);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, half + 2 * i, sizeof bits);
        low[i] = (uint16_t)bits;
        half[i] = (uint16_t)((bits + 0x8000u) >> 16);
    }
    memcpy(half + n, low, n * sizeof *low);
    if (low != kept) free(low);
}

void join_row(float *row, const void *split, size_t n)
{
    const uint16_t *half = split;
    uint16_t kept[2 * PART], *copy = n <= PART ? kept : malloc(2 * n * sizeof *copy);
    CHECK(copy != NULL);
    memcpy(copy, half, 2 * n * sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = ((uint32_t)copy[i] << 16) + (uint32_t)(int16_t)copy[n + i];
        memcpy(row + i, &bits, sizeof bits);
    }
    if (copy != kept) free(copy);
}

static void split_param(const Param *p, float *w)
{
    for (size_t r = 0; p->split && r < p->rows; r++) split_row(w + r * p->cols, p->cols);
}

static void join_param(const Param *p, float *w)
{
    for (size_t r = 0; p->split && r < p->rows; r++) join_row(w + r * p->cols, w + r * p->cols, p->cols);
}

void split_block(const ParamTable *t, float *block)
{
    for (int i = 0; i < t->n; i++) split_param(&t->params[i], block + t->params[i].offset);
}

void join_block(const ParamTable *t, float *block)
{
    for (int i = 0; i < t->n; i++) join_param(&t->params[i], block + t->params[i].offset);
}

static void each_state(const ParamTable *t, float *block, Keeper *k, void (*turn)(const Param *, float *))
{
    for (int part = 0; part < t->n_parts; part++) {
        keeper_need(k, part, 1);
        for (int i = t->parts[part].first; i < t->parts[part].first + t->parts[part].n; i++)
            if (t->params[i].state != SIZE_MAX) turn(&t->params[i], block + t->params[i].state);
        keeper_done(k, part, 1);
    }
}

void split_states(const ParamTable *t, float *block, Keeper *k)
{
    each_state(t, block, k, split_param);
}

void join_states(const ParamTable *t, float *block, Keeper *k)
{
    each_state(t, block, k, join_param);
}
