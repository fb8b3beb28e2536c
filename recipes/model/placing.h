/* A model whose weights do not fit into memory: what of it stays there and what passes through a ring (checkpoints/pool.h). */
#ifndef RECIPES_PLACING_H
#define RECIPES_PLACING_H

#include "checkpoints/pool.h"
#include "checkpoints/reader.h"
#include "core/policy.h"
#include "recipes/model/machine.h"

enum { PLACING_THREADS = 2 }; /* that read */

typedef struct PlacingReads {
    long experts;
    uint64_t bytes;
} PlacingReads;

/* Bytes of memory by what takes them, experts as counts. */
typedef struct PlacingPlan {
    size_t work;    /* what computing takes beside weights */
    size_t trunk;   /* what is no expert */
    size_t slot;    /* of an expert */
    size_t staging; /* of the reader, where numbers are converted */
    size_t total, budget;
    int experts, pinned, slots, layers; /* layers with experts */
    uint64_t disk_pass;                 /* bytes of all experts on the disk */
    PlacingReads pass, step; /* read by a forward, and by a forward and its backward, that visit every expert */
} PlacingPlan;

typedef struct Placing {
    Reader *reader;
    Pool *pool;
    PlacingPlan plan;
    double opening; /* seconds its threads read until the pool was open */
} Placing;

/* Whether the machine's budget holds all weights of m as policy_new would keep them and the backend's copies of them, beside
 * `work` bytes. */
bool placing_fits(const Machine *machine, const LoadedModel *m, size_t work);
/* Places the weights of m, which must outlive it, in p (policy_placed) within the machine's budget. Fails with what would fit. */
bool placing_open(Placing *out, PlacingPlan *plan, const Machine *machine, const LoadedModel *m, Policy *p, size_t work,
                  Status *st);
void placing_close(Placing *p);

/* Rows of a head chunk where nothing is trained and not all weights fit: few, so that more experts stay. */
int placing_chunk(const Machine *machine);

/* Where sizes of parts come from, bytes that its readers work in, and the work's. */
typedef struct PlacingSizes {
    const PartSource *source;
    size_t staging, work;
} PlacingSizes;

/* The parts of it, for those who plan: sizes for a work of so many bytes; how many experts then stay (returns the least budget,
 * which may be above the plan's); and which (free()), with what is read. */
bool placing_fill(PlacingPlan *plan, const Machine *machine, const LoadedModel *m, const PlacingSizes *s, Status *st);
size_t placing_choose(PlacingPlan *plan);
uint8_t *placing_pinned(PlacingPlan *plan, const LoadedModel *m, const PartSource *s);
/* Bytes a second that the disk gave so far while it was busy; 0: nothing was read. */
double placing_disk_rate(const Placing *p);
/* The part of a budget that is left free: page tables, stacks, pages of mappings (some MB, seen with 8 GB). And the least budget
 * whose rest without so many of these is `bytes`, counted so that another call of the same command is not refused with it. */
size_t placing_margin(size_t budget);
size_t placing_least(size_t bytes, int margins);
/* The least bytes that placing_open takes beside its work and the margin, from above, for a table where what is trained lies
 * apart. */
size_t placing_estimate(const ParamTable *t, DType dtype);
/* Bytes as a person gives them to --memory, rounded up. Returns out. */
const char *placing_gb(char out[32], size_t bytes);
/* The plan in a line, and what was read so far in another. */
void placing_describe(const PlacingPlan *plan, const Placing *p, char *out, size_t size);
void placing_summary(const Placing *p, char *out, size_t size);

#endif
