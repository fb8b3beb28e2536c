/* The plan object of a model larger than memory: what rests where, what a pass, a step and a token cost, what bounds
 * them. The pool obeys its part of it (recipes/model/placing.h), `r1 plan` prints it. */
#ifndef RECIPES_PLACEMENT_H
#define RECIPES_PLACEMENT_H

#include "data/json.h"
#include "recipes/plan/rates.h"

/* A pass (forward), a step (forward and backward) or a token of decoding. Experts and bytes are those read, as they are
 * expected for that many tokens. */
typedef struct PlaceCost {
    double tokens, flops, experts, bytes;
    double compute, disk, seconds;
} PlaceCost;

enum { PLACE_CHUNKS = 4, PLACE_LAYERS = 512, LEAST_CHUNK = 1024 };

/* Completions before a training step, `slots` sequences at once: decode steps, each with so many busy experts a layer (of E). At
 * most: a completion may end early. */
typedef struct PlaceSampling {
    double slots, steps, busy, compute; /* seconds of a step on the processor */
} PlaceSampling;

/* What the search knows of a work: bytes and seconds by the number of kept layers and the rows of a head chunk. */
typedef struct PlaceModel {
    PlacingPlan fit;                 /* sizes; its work, experts in memory and ring are chosen */
    size_t fixed;                    /* of work: process, scratch, cache, state, margin */
    int layers;                      /* that backward visits; 0: nothing is trained */
    size_t interior[PLACE_LAYERS];   /* of the i-th of them */
    int chunks, chunk[PLACE_CHUNKS]; /* falling */
    size_t arena_none[PLACE_CHUNKS], arena_all[PLACE_CHUNKS]; /* no layer kept (interiors of one are in it); all kept */
    double trunk_none, trunk_all, experts_none, experts_all;  /* seconds of ops on experts, and of the others */
    double slab;                                              /* seconds to read an expert */
    double busy;                                              /* experts of a layer that have rows, of E */
    int E, trains;
    PlaceSampling sampling;
} PlaceModel;

typedef struct Placement {
    PlaceModel model;
    PlacingPlan fit;
    Beside beside;
    int layers_kept, chunk;
    size_t kept, keep_bytes; /* interiors; Engine.keep_bytes */
    PlaceCost cost, token; /* of the pass or step without sampling; of a token decoded alone, with a plan of its own */
    double sampling;       /* seconds of the completions of a step */
    PlacingPlan token_fit;
    long holes; /* experts that lie in holes of their files */
    bool trains;
    const char *assumed; /* of a machine that is not here: its --as; NULL: this one */
    bool gpu;            /* on a GPU, experts rest in RAM */
} Placement;

/* Seconds with `kept` layers kept and chunk number `chunk`, sampling included, by the closed forms of docs/placement.md, and
 * *fit then; INFINITY: more than the budget. */
double placement_seconds(const PlaceModel *m, int kept, int chunk, PlacingPlan *fit);
/* The smallest of these; among equals the most experts in memory, then the most kept layers, then the largest chunk. False:
 * nothing fits; *kept and *chunk are then what takes the least. */
bool placement_search(const PlaceModel *m, int *kept, int *chunk, PlacingPlan *fit);

/* Plans a work on the experts of `file` within m->memory. s: sizes of its parts; its work is what one sequence that is sampled
 * takes beside the weights (0: the token is not planned). Keeps out->assumed and out->gpu. Fails with what would fit: *least, if
 * not NULL, is then that budget (0: it failed for another reason). */
bool placement_make(Placement *out, const Machine *m, const LoadedModel *file, const PlacingSizes *s,
                    const PlanWork *work, const Rates *rates, size_t *least, Status *st);

/* The same for a stage of a run, as a Plan that the run obeys: what is trained lies apart from the frozen weights
 * of `file` (by its table), rates are the kept ones of this machine and of the file's disk, and what is missing of
 * them is assumed (rates_assume: a function of the processors and the type). Where not even what is trained fits
 * and there is a folder of --state, it rests there. False: out->least, if not 0, would fit. */
bool placement_stage(Plan *out, const Machine *m, const LoadedModel *file, const PlanWork *work, const char *what,
                     Status *st);
/* `name` opened in place with the adapters of a config, what of it is trained chosen (NULL: nothing is) and, with adapters too,
 * apart. */
LoadedModel *placement_file(const Machine *m, const char *name, const ModelConfig *config, const RecipeNames *train,
                            Status *st);

/* Of a placed model that has computed: says on standard error when a pass of `work` (NULL: a token of one sequence) took
 * 25 % more or less than kept rates say, and what the disk gave. Silent where no rates are kept. */
void placement_compare(const Machine *m, const LoadedModel *file, const Placing *placing, const PlanWork *work);
/* The sentence of it, for a sweep or step that took `seconds`; "": within 25 %. */
const char *placement_off(char *out, size_t size, const char *what, double seconds, double planned, double disk,
                          double planned_disk);

/* What a person reads. */
void placement_print(const Placement *p, const LoadedModel *file, const Machine *m, const PlanWork *work,
                     const Rates *rates);
Json *placement_json(const Placement *p, const LoadedModel *file, const Machine *m, const PlanWork *work,
                     const Rates *rates);
/* "measured 3 min ago", "modelled". */
const char *rates_word(char *out, size_t size, bool assumed, double age);

#endif
