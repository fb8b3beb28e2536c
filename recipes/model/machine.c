/* The backend, the memory and the clock of this machine. */
#include "recipes/model/machine.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"

const char *const runtime_help =
    "  --threads N             processors to use (default: all)\n"
    "  --chunk N               rows the output head computes at once (default 4096; never changes results)\n"
    "  --matmul NAME           matrix products by: native, onednn, openblas, or as a table of `r1 bench --tune` says\n"
    "  --precision TYPE        f32, or bf16: weights and activations in bf16, sums, norms, softmax and master weights "
    "in f32\n"
    "                          (default: a recipe's own; for a checkpoint of a run that run's; else f32)\n"
    "  --memory GB             budget; layers that do not fit are recomputed in backward (default: 70 % of free "
    "memory)\n"
    "  --checkpoint-seconds S  work between checkpoints (default 15)\n"
    "  --skip-bad              count and skip broken JSONL lines instead of failing\n"
    "  -v                      more about the machine and where the time went\n";

RuntimeOptions runtime_defaults(void)
{
    return (RuntimeOptions){.chunk = 4096, .checkpoint_seconds = 15};
}

void machine_wait_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || setenv("GOMP_SPINCOUNT", "5000", 1)) return;
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return;
    program[n] = 0;
    execv(program, argv); /* where that fails, things are slower, not wrong */
}

static bool number_after(int argc, char **argv, int *i, double lo, double hi, double *out, Status *st)
{
    const char *name = argv[*i];
    if (*i + 1 >= argc) return fail(st, "%s needs a value", name);
    char *end;
    double v = strtod(argv[++*i], &end);
    if (*end || end == argv[*i] || !(v >= lo && v <= hi))
        return fail(st, "%s %s: expected a number from %g to %g", name, argv[*i], lo, hi);
    *out = v;
    return true;
}

int runtime_option(RuntimeOptions *o, int argc, char **argv, int *i, Status *st)
{
    const char *a = argv[*i];
    double v = 0;
    if (!strcmp(a, "--threads")) {
        if (!number_after(argc, argv, i, 1, 1024, &v, st)) return -1;
        o->threads = (int)v;
    } else if (!strcmp(a, "--chunk")) {
        if (!number_after(argc, argv, i, 1, 1 << 24, &v, st)) return -1;
        o->chunk = (int)v;
    } else if (!strcmp(a, "--memory")) {
        if (!number_after(argc, argv, i, 0.001, 1e6, &o->memory_gb, st)) return -1;
    } else if (!strcmp(a, "--checkpoint-seconds")) {
        if (!number_after(argc, argv, i, 0, 1e6, &o->checkpoint_seconds, st)) return -1;
    } else if (!strcmp(a, "--matmul")) {
        if (*i + 1 >= argc) return fail(st, "--matmul needs a name (%s) or a table's path", cpu_matmul_providers()), -1;
        o->matmul = argv[++*i];
    } else if (!strcmp(a, "--precision")) {
        const char *name = *i + 1 < argc ? argv[++*i] : "";
        o->dtype = !strcmp(name, dtype_name(DTYPE_BF16)) ? DTYPE_BF16 : DTYPE_F32;
        o->dtype_given = true;
        if (strcmp(name, dtype_name(o->dtype))) return fail(st, "--precision %s: expected f32 or bf16", name), -1;
    } else if (!strcmp(a, "--skip-bad")) {
        o->skip_bad = true;
    } else if (!strcmp(a, "--other-machine")) {
        o->other_machine = true;
    } else if (!strcmp(a, "-v")) {
        o->verbose = true;
    } else {
        return 0;
    }
    return 1;
}

/* MemAvailable: what caches hold and would give back is counted. 0 where there is no such line. */
static size_t available_memory(void)
{
    unsigned long long kilobytes = 0;
    char line[256];
    FILE *in = fopen("/proc/meminfo", "r");
    while (in && kilobytes == 0 && fgets(line, sizeof line, in)) sscanf(line, "MemAvailable: %llu kB", &kilobytes);
    if (in) fclose(in);
    return (size_t)kilobytes * 1024;
}

size_t machine_free_memory(void)
{
    size_t available = available_memory();
    if (available) return available;
    long pages = sysconf(_SC_AVPHYS_PAGES), total = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    /* These leave out the caches: count at least half of the machine. */
    if (pages < total / 2) pages = total / 2;
    return (size_t)pages * (size_t)size;
}

bool machine_open(Machine *m, const RuntimeOptions *o, Status *st)
{
    /* Left alone, glibc stops returning freed blocks to the system once large ones were freed, and a first step's blocks would
     * stay resident beside the one they are joined into: twice the memory that was planned. */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    *m = (Machine){.options = *o};
    CpuOptions cpu = {.threads = o->threads, .dtype = o->dtype, .matmul = o->matmul};
    m->backend = m->cpu = cpu_open(&cpu, &m->ops, st);
    m->memory = o->memory_gb > 0 ? (size_t)(o->memory_gb * 1e9) : machine_free_memory() / 10 * 7;
    return m->backend != NULL;
}

void machine_close(Machine *m)
{
    if (m->backend) m->ops->close(m->backend);
    *m = (Machine){0};
}

size_t machine_peak_memory(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss * 1024;
}

double machine_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
