/* The machine a command computes on: the backend opened by name, its memory, its clock. */
#ifndef RECIPES_MACHINE_H
#define RECIPES_MACHINE_H

#include "core/engine.h"
#include "recipes/model/runtime_options.h"

/* Call first in main. Threads that wait for each other should spin for some 60 microseconds before they sleep: on a machine that
 * does other work too, one that spins for milliseconds holds the processor its partner waits for (seen: 10 times slower), and one
 * that sleeps at once is woken too late (seen: 10 % slower). The OpenMP runtime reads that from the environment as it starts, so
 * the program starts itself once more with it set; a person's own OMP_WAIT_POLICY or GOMP_SPINCOUNT is left alone. */
void machine_wait_briefly(char **argv);

typedef struct Machine {
    const Ops *ops;
    Backend *backend;
    Backend *cpu; /* for cpu/limits.h and cpu/memory_need.h: backend, or what lies under `times`; NULL on a device */
    RuntimeOptions options;
    struct OpTimes
        *times;    /* NULL, or between core and the backend (recipes/model/op_times.h): `r1 run -v`, `r1 bench` */
    size_t memory; /* bytes a run may use */
} Machine;

/* Opens the backend that o->device names; its memory is the device's. */
bool machine_open(Machine *m, const RuntimeOptions *o, Status *st);
void machine_close(Machine *m);
/* A second backend of the same device (not the CPU) that computes nothing and counts the device's memory (GpuOptions.counts). */
Backend *machine_counts(const Machine *m, const Ops **ops, Status *st);
/* Engines on this machine: half of its memory for layers that are kept. */
EngineOptions machine_engine(const Machine *m);

/* "model name" of /proc/cpuinfo, or "unknown". */
void machine_cpu_name(char *out, size_t size);

/* Bytes that could be had without swapping, and within the limits of a container and of `ulimit -v`. */
size_t machine_free_memory(void);
/* Processors that this process may use: its affinity, and the quota of a container in whole processors. */
int machine_processors(void);
/* Bytes that this process takes now; and as many for the program and its libraries as they take at most, with what
 * it has allocated and `more` in whole steps (a multiple of 8 MB), so that two commands that read the same files
 * count alike. $R1_OWN, bytes: what is counted as allocated, for tests. */
/* Of what they have allocated two calls of one command differ by less: 0.02 to 0.5 MB were seen, as the kernel gives huge pages
 * and threads begin. */
enum { MACHINE_NOISE = 1 << 20 };
size_t machine_own_memory(void);
size_t machine_own_memory_in_steps(size_t more);
/* Largest resident set of this process so far, bytes. */
size_t machine_peak_memory(void);

#endif
