/* The backend, the memory and the clock of this machine. */
#include "recipes/model/machine.h"

#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "recipes/model/plugin.h"
#include "recipes/model/container.h"

void machine_wait_briefly(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || setenv("GOMP_SPINCOUNT", "5000", 1)) return;
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return;
    program[n] = 0;
    execv(program, argv); /* where that fails, things are slower, not wrong */
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

static size_t system_free_memory(void)
{
    size_t available = available_memory();
    if (available) return available;
    long pages = sysconf(_SC_AVPHYS_PAGES), total = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    /* These leave out the caches: count at least half of the machine. */
    if (pages < total / 2) pages = total / 2;
    return (size_t)pages * (size_t)size;
}

/* What `ulimit -v` leaves; SIZE_MAX: no limit. */
static size_t address_room(void)
{
    struct rlimit limit;
    unsigned long pages = 0;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%lu", &pages) != 1) pages = 0;
    if (f) fclose(f);
    size_t used = (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
    return limit.rlim_cur > used ? (size_t)limit.rlim_cur - used : 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t machine_free_memory(void)
{
    return smaller(system_free_memory(), smaller(container_limits("").memory, address_room()));
}

int machine_processors(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    double quota = container_limits("").processors;
    /* Threads beyond the quota would be stopped for the rest of every period, and the others wait for them. */
    if (quota > 0 && quota < n) n = quota < 1 ? 1 : (int)quota;
    return n > 0 ? n : 1;
}

void machine_cpu_name(char *out, size_t size)
{
    snprintf(out, size, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f) fclose(f);
}

static bool open_device(Machine *m, DeviceName device, const RuntimeOptions *o, Status *st)
{
    size_t bytes;
    m->backend = plugin_open(device, (DeviceUse){(DType)o->dtype, o->matmul, false}, &m->ops, &bytes, st);
    m->memory = o->memory_gb > 0 ? (size_t)(o->memory_gb * 1e9) : bytes / 10 * 9;
    return m->backend != NULL;
}

bool machine_open(Machine *m, const RuntimeOptions *o, Status *st)
{
    /* Left alone, glibc stops returning freed blocks to the system once large ones were freed, and a first step's blocks would
     * stay resident beside the one they are joined into: twice the memory that was planned. */
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    *m = (Machine){.options = *o};
    DeviceName device;
    if (!device_parse(o->device, &device, st)) return false;
    if (device.kind != DEVICE_CPU) return open_device(m, device, o, st);
    CpuOptions cpu = {.threads = o->threads > 0 ? o->threads : machine_processors(),
                      .adapting = o->threads == 0, /* a number that a person gives is kept */
                      .dtype = (DType)o->dtype,
                      .matmul = o->matmul};
    m->backend = m->cpu = cpu_open(&cpu, &m->ops, st);
    m->memory = o->memory_gb > 0 ? (size_t)(o->memory_gb * 1e9) : machine_free_memory() / 10 * 7;
    return m->backend != NULL;
}

Backend *machine_counts(const Machine *m, const Ops **ops, Status *st)
{
    DeviceName device;
    size_t unused;
    if (!device_parse(m->options.device, &device, st)) return NULL;
    return plugin_open(device, (DeviceUse){(DType)m->options.dtype, m->options.matmul, true}, ops, &unused, st);
}

EngineOptions machine_engine(const Machine *m)
{
    return (EngineOptions){m->ops, m->backend, m->options.dtype, m->options.chunk, m->memory / 2};
}

void machine_close(Machine *m)
{
    if (m->backend) m->ops->close(m->backend);
    *m = (Machine){0};
}

/* Pages of the program and its libraries that are met, from above: 17.6 MB when a run plans, 21 when it has written a checkpoint
 * (RssFile in /proc/PID/status). */
enum { PROGRAM = 22000000, OWN_STEP = 1 << 23 };

/* A line of /proc/self/smaps_rollup, bytes; exact, which the counters in statm are not. 0 where the kernel does not say. */
static size_t own_bytes(const char *format)
{
    unsigned long long kilobytes = 0;
    char line[256];
    FILE *in = fopen("/proc/self/smaps_rollup", "r");
    while (in && kilobytes == 0 && fgets(line, sizeof line, in)) sscanf(line, format, &kilobytes);
    if (in) fclose(in);
    return (size_t)kilobytes * 1024;
}

size_t machine_own_memory(void)
{
    return own_bytes("Rss: %llu kB");
}

size_t machine_own_memory_in_steps(size_t more)
{
    const char *told = getenv("R1_OWN");
    return PROGRAM + ((told ? strtoull(told, NULL, 10) : own_bytes("Anonymous: %llu kB")) + more + OWN_STEP - 1) /
                         OWN_STEP * OWN_STEP;
}

size_t machine_peak_memory(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (size_t)u.ru_maxrss * 1024;
}
