/* Who has a model's parts (core/params.h) where ops can use them. NULL in Weights: all of them are there.
 *
 * Core says four words, in the order of the layers: sweep (what follows), routed (which experts of a layer have rows), need (the
 * views of a part must hold from now on) and done (they need not any more; of gradients: they are finished). Nothing here returns
 * an error: the first fault is kept, views hold zeros after it, and whoever would use results asks `fault` before. */
#ifndef CORE_KEEPER_H
#define CORE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

/* What follows: one forward, a forward and its backward, or a forward of a decode step's rows. */
typedef enum { SWEEP_FORWARD, SWEEP_TRAIN, SWEEP_DECODE } Sweep;

typedef struct Keeper Keeper;
struct Keeper {
    void (*sweep)(Keeper *k, Sweep kind);
    /* Said before the first need of a layer's experts, in forward and in backward: offsets [E + 1] on the host, so that expert i
     * has offsets[i + 1] - offsets[i] rows. Those without are skipped by `need`. */
    void (*routed)(Keeper *k, int layer, const int32_t *offsets);
    void (*need)(Keeper *k, int part, int n); /* parts [part, part + n) */
    void (*done)(Keeper *k, int part, int n);
    bool (*fault)(Keeper *k, Status *st); /* false, with the sentence: what was computed since is worth nothing */
    int most;                             /* experts with rows that may be needed at once */
};

static inline void keeper_sweep(Keeper *k, Sweep kind)
{
    if (k) k->sweep(k, kind);
}

static inline void keeper_routed(Keeper *k, int layer, const int32_t *offsets)
{
    if (k) k->routed(k, layer, offsets);
}

static inline void keeper_need(Keeper *k, int part, int n)
{
    if (k) k->need(k, part, n);
}

static inline void keeper_done(Keeper *k, int part, int n)
{
    if (k) k->done(k, part, n);
}

static inline bool keeper_fault(Keeper *k, Status *st)
{
    return !k || k->fault(k, st);
}

#endif
