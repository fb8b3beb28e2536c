/* The machine a command computes on: the backend opened by name, and the options of a command line that are not part of a
 * recipe because they change time and memory, never results (--precision does, and `r1 run` makes a recipe key of it). */
#ifndef RECIPES_MACHINE_H
#define RECIPES_MACHINE_H

#include "core/ops.h"

typedef struct RuntimeOptions {
    int threads;               /* 0: all processors */
    int chunk;                 /* rows of a head chunk; 0: 4096 */
    const char *matmul;        /* NULL: the default provider */
    DType dtype;               /* of models: f32, or bf16 (core/engine.h). `r1 run` takes it from the recipe */
    bool dtype_given;          /* on the command line */
    double memory_gb;          /* budget of a run; 0: 70 % of what the machine has free */
    double checkpoint_seconds; /* of work between checkpoints */
    bool skip_bad;             /* JSONL: count and skip broken lines */
    bool verbose;
    bool other_machine; /* resume although the checkpoint was made by another machine kind */
} RuntimeOptions;

RuntimeOptions runtime_defaults(void);

/* Call first in main. Threads that wait for each other should spin for some 60 microseconds before they sleep: on a machine that
 * does other work too, one that spins for milliseconds holds the processor its partner waits for (seen: 10 times slower), and one
 * that sleeps at once is woken too late (seen: 10 % slower). The OpenMP runtime reads that from the environment as it starts, so
 * the program starts itself once more with it set; a person's own OMP_WAIT_POLICY or GOMP_SPINCOUNT is left alone. */
void machine_wait_briefly(char **argv);

/* Takes --threads N, --chunk N, --matmul NAME, --precision T, --memory GB, --checkpoint-seconds S, --skip-bad, -v out of argv
 * at *i. Returns 1 when it took one (and moved *i past its value), 0 when argv[*i] is none of them, -1 with a sentence on a
 * bad value. */
int runtime_option(RuntimeOptions *o, int argc, char **argv, int *i, Status *st);
extern const char *const runtime_help; /* the lines for --help */

typedef struct Machine {
    const Ops *ops;
    Backend *backend;
    Backend *cpu; /* the one that computes, for cpu/probe.h: backend, or what lies under `times` */
    RuntimeOptions options;
    struct OpTimes *times; /* NULL, or between core and the backend (op_times.h): `r1 run -v`, `r1 bench` */
    size_t memory;         /* bytes a run may use */
} Machine;

/* Opens the backend ("cpu"). */
bool machine_open(Machine *m, const RuntimeOptions *o, Status *st);
void machine_close(Machine *m);

/* Bytes that could be had without swapping. */
size_t machine_free_memory(void);
/* Largest resident set of this process so far, bytes. */
size_t machine_peak_memory(void);
/* Seconds of a clock that only goes forward. */
double machine_seconds(void);

#endif
