/* Discrete-event simulator of a model larger than memory: the step's own code, run on a backend that computes nothing,
 * gives a trace; the pool itself (checkpoints/pool.c) plays it against a disk and a processor that are clocks.
 *
 * What it shows: which reads are waited for, given the ring, what stays, and the order in which the pool reads. What it cannot:
 * processors and disk that slow each other down, and experts that have more rows than others. */
#ifndef RECIPES_SIMULATE_H
#define RECIPES_SIMULATE_H

#include "recipes/plan/placement.h"

/* Seconds on the processor: of what every token uses, up to the experts of a layer, or of a layer's busy experts together. */
typedef struct TraceEvent {
    enum { TRACE_TRUNK, TRACE_EXPERTS } kind;
    int layer; /* of experts */
    double seconds;
} TraceEvent;

typedef struct Trace {
    Sweep sweep;
    TraceEvent *events;
    int n, size;
} Trace;

/* The events of a work's step, in seconds by rates. Free with trace_free. */
bool trace_record(Trace *out, const Machine *m, const PlanWork *w, const Rates *rates, size_t keep_bytes, Status *st);
void trace_add(Trace *t, TraceEvent e);
void trace_free(Trace *t);

/* What is played besides: the pool's plan, seconds to read an expert, experts of a layer that have rows, and how often the
 * step is repeated (the first begins with an empty ring). */
typedef struct SimulateSetup {
    const ParamTable *table;
    const ModelConfig *config;
    PoolPlan pool;
    double slab;
    int busy, repeats;
} SimulateSetup;

enum { SIMULATE_LAYERS = 512 };

/* A repeat on average. waited: the processor for the disk; of it before the first expert of a layer, and within a layer. */
typedef struct Simulated {
    double seconds, compute, disk, waited, waited_first, waited_within;
    double reads;                                            /* experts */
    int layers;                                              /* visits of layers with experts, in order */
    double begins[SIMULATE_LAYERS], stalls[SIMULATE_LAYERS]; /* of the last repeat: when a visit began; waited in it */
} Simulated;

bool simulate(Simulated *out, const Trace *t, const SimulateSetup *s, Status *st);

/* Seconds by cause and a strip of the time: # computing, . waiting for the disk. */
void simulate_print(const Simulated *s, const Placement *p, const Rates *rates);

#endif
