/* The four words passed on, and done told to the file block. */
#include "checkpoints/part_rest.h"

#include <limits.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "core/params_select.h"

static PartRest *rest_of(Keeper *k)
{
    return (PartRest *)(void *)k;
}

static void rest_sweep(Keeper *k, Sweep kind)
{
    keeper_sweep(rest_of(k)->below, kind);
}

static void rest_routed(Keeper *k, int layer, const int32_t *offsets)
{
    PartRest *r = rest_of(k);
    keeper_routed(r->below, layer, offsets);
    int first = params_part(r->table, layer, 0);
    for (int e = 0; r->table->parts[first + e].layer == layer; e++) r->idle[first + e] = offsets[e + 1] == offsets[e];
}

static void rest_need(Keeper *k, int part, int n)
{
    keeper_need(rest_of(k)->below, part, n);
}

static void rest_done(Keeper *k, int part, int n)
{
    PartRest *r = rest_of(k);
    keeper_done(r->below, part, n);
    for (int i = part; i < part + n; i++) {
        size_t count;
        params_part_state(r->table, i, &count);
        if (!r->idle[i]) file_block_done(r->block, count * sizeof(float));
    }
}

static bool rest_fault(Keeper *k, Status *st)
{
    return keeper_fault(rest_of(k)->below, st);
}

PartRest part_rest_open(Keeper *below, FileBlock *block, const ParamTable *table)
{
    uint8_t *idle = calloc((size_t)table->n_parts, 1);
    CHECK(idle);
    Keeper keeper = {rest_sweep, rest_routed, rest_need, rest_done, rest_fault, below ? below->most : INT_MAX};
    return (PartRest){keeper, below, block, table, idle};
}

void part_rest_close(PartRest *r)
{
    free(r->idle);
    r->idle = NULL;
}
