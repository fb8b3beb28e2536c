/* `r1 bench`: how close each part is to what the machine can do. A case is a piece of work with a name; running it
 * gives a row. The machine's limits are probed again between the rows. */
#ifndef RECIPES_BENCH_H
#define RECIPES_BENCH_H

#include "recipes/model/limits.h"
#include "recipes/model/op_times.h"
#include "core/policy.h"

enum { BENCH_ROWS = 2048, BENCH_NAME = 64 };

typedef enum { BOUND_FLOP, BOUND_READ, BOUND_COPY } Bound; /* the limit a row is measured against */

/* FLOPs: 6 x active matmul parameters x tokens and causal attention in training, a third of it in a forward; what is
 * computed a second time (attention scores, layers that were not kept) does not count. */
typedef struct BenchRow {
    char name[BENCH_NAME];
    double seconds;      /* of the fastest run */
    double tokens;       /* 0: none to speak of */
    double flops, bytes; /* of one run; 0: unknown */
    double percent;      /* of the limit `bound` */
    double share;        /* of the step's time, rows of an op; < 0: a whole step */
    Bound bound;
    DType dtype; /* what its FLOPs are measured against */
} BenchRow;

typedef struct Bench {
    Machine machine;  /* its backend is timed by `times` */
    Backend *backend; /* the one under it, for probes */
    Limits limits;
    OpTimes *times; /* NULL on a device: its ops are queued, a clock around each would hold them up */
    Peaks peaks;
    float *probe; /* limits.floats, of the device */
    bool quick, print;
    double row_seconds; /* what the runs of a large row are to take together, by the probed peak; 0: no limit */
    BenchRow rows[BENCH_ROWS];
    int n;
} Bench;

/* What one run of a case did. */
typedef struct BenchWork {
    double tokens, flops, bytes;
    double seconds; /* 0: all the time the run took */
} BenchWork;

struct BenchCase;

/* A kind of work. open makes everything a run needs, warm meets all memory that a run works in (NULL: by a run), run is timed as
 * often as it takes. */
typedef struct BenchKind {
    void *(*open)(Bench *b, const struct BenchCase *c, Status *st);
    bool (*warm)(void *self, Status *st);
    bool (*run)(void *self, BenchWork *out, Status *st);
    void (*close)(void *self);
    Bound bound;
    bool ops; /* rows for its ops */
} BenchKind;

typedef struct BenchCase {
    const char *name;
    const BenchKind *kind;
    DType dtype;
    const char *model;     /* a name bench_model knows */
    int sequences, length; /* training: shape of the batch; decoding: sequences and tokens of a prompt */
    int tokens, samples;   /* sampled: tokens of a completion, completions a prompt */
    CacheKind cache;
    int experts;      /* 0: the model's */
    const char *peer; /* script of tests/peers that knows this row; NULL: none */
    bool large;       /* several GB, or many seconds a run */
} BenchCase;

extern const BenchKind bench_train, bench_grpo, bench_ppo, bench_adamw, bench_decode, bench_prefill;
const BenchCase *bench_cases(int *n);

/* recipes/bench/model.c. Config by name; false when unknown. */
bool bench_model(const char *name, ModelConfig *out);
/* A policy with cheap pseudo-random weights of the config's init_std. Fails when it would not fit: `blocks`
 * weights-sized blocks and `bytes` more. */
Policy *bench_policy(Bench *b, const BenchCase *c, int blocks, size_t bytes, Status *st);
/* Parameters a token meets in matrix products: K of E experts, the head, not the embedding. */
double bench_active(const Policy *p);
/* Sequences of a row, each of so many FLOPs: of a large row those that its `runs` have time for (Bench.row_seconds), at least
 * one. */
int bench_sequences(const Bench *b, const BenchCase *c, double flops_of_one, int runs);
/* FLOPs of attention over n sequences of T tokens, forward. */
double bench_attention_flops(const ModelConfig *c, int n, int T);
/* Tokens of a batch: ids 0 .. V - 1 in no order, n of them; free(). */
int32_t *bench_tokens(const ModelConfig *c, size_t n, uint32_t seed);

/* recipes/bench/bench.c. Probes the machine three times, keeping the best ever; allocates its buffers once. */
bool bench_probe(Bench *b, Status *st);

/* recipes/bench/report.c. */
void bench_print_machine(const Bench *b);
void bench_print_row(const Bench *b, const BenchRow *r);
void bench_print_memory(void);
void bench_print_json(const Bench *b);

/* Seconds that `--quick` has for the runs of a large row. */
enum { QUICK_ROW_SECONDS = 5 };

/* Runs a case: warms up, then the best of three (large ones: of two; quick: of two, large ones once). Adds its rows. */
bool bench_run(Bench *b, const BenchCase *c, Status *st);

/* recipes/bench/peers.c. Ours and the peer's in turn, for every case (or the one named) with a peer; prints ratios. */
bool bench_peers(Bench *b, const char *only, Status *st);

/* tune.c. Times every provider of matrix products on the weights of the rows' models (or of the one named), prints
 * that, and writes the table of the fastest for `--matmul`. */
bool bench_tune(Bench *b, const char *path, const char *model, Status *st);

#endif
