/* What this machine has for r1: rows of a page that is printed as text or JSON. */
#include "recipes/cli/machine_page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "checkpoints/known_models.h"
#include "core/base/check.h"
#include "cpu/cpu.h"
#include "data/json.h"
#include "data/sandbox/sandbox.h"
#include "gpu/gpu.h"
#include "recipes/model/container.h"
#include "recipes/model/plugin.h"
#include "recipes/plan/placement.h"

typedef struct Page {
    Json *all, *section; /* the section that rows are added to */
    bool json;
    Machine machine;
    Rates rates;
} Page;

static void begin(Page *p, const char *name)
{
    p->section = json_new_object();
    json_set(p->all, name, p->section);
    if (!p->json) printf("%s\n", name);
}

/* A row: its value in JSON, and how a person reads it. */
static void row(Page *p, const char *key, Json *value, const char *format, ...) __attribute__((format(printf, 4, 5)));
static void row(Page *p, const char *key, Json *value, const char *format, ...)
{
    json_set(p->section, key, value);
    if (p->json) return;
    va_list args;
    printf("  %-16s ", key);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static Json *gb(double bytes)
{
    return json_new_number((double)(long)(bytes / 1e6 + 0.5) / 1e3);
}

static void processor_rows(Page *p)
{
    char name[128];
    ContainerLimits limits = container_limits("");
    machine_cpu_name(name, sizeof name);
    begin(p, "processor");
    row(p, "name", json_new_text(name), "%s", name);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    row(p, "processors", json_new_int(online), "%ld", online);
    if (limits.processors > 0)
        row(p, "quota", json_new_number(limits.processors), "%.2f processors, by the control group", limits.processors);
    else row(p, "quota", json_new_null(), "none");
    int threads = cpu_threads(p->machine.cpu);
    row(p, "threads", json_new_int(threads), "%d are used (--threads; fewer while others want the processors)",
        threads);
    row(p, "instructions", json_new_text(cpu_isa(p->machine.cpu)), "%s (R1_ISA takes a smaller set)",
        cpu_isa(p->machine.cpu));
    row(p, "kernels", json_new_int(cpu_kernels_version()), "version %d: %s", cpu_kernels_version(),
        p->machine.ops->describe(p->machine.backend));
    row(p, "products by", json_new_text(cpu_matmul_libraries()), "%s", cpu_matmul_libraries());
}

static void memory_rows(Page *p)
{
    ContainerLimits limits = container_limits("");
    struct rlimit address;
    double installed = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
           free = (double)machine_free_memory();
    begin(p, "memory");
    row(p, "installed", gb(installed), "%.2f GB", installed / 1e9);
    row(p, "free", gb(free), "%.2f GB can be had", free / 1e9);
    if (limits.memory < SIZE_MAX)
        row(p, "container", gb((double)limits.memory), "its limit leaves %.2f GB", (double)limits.memory / 1e9);
    else row(p, "container", json_new_null(), "no limit");
    bool limited = getrlimit(RLIMIT_AS, &address) == 0 && address.rlim_cur != RLIM_INFINITY;
    if (limited) row(p, "ulimit -v", gb((double)address.rlim_cur), "%.2f GB", (double)address.rlim_cur / 1e9);
    else row(p, "ulimit -v", json_new_null(), "no limit");
    row(p, "budget", gb((double)p->machine.memory), "%.2f GB without --memory", (double)p->machine.memory / 1e9);
}

static void speed_rows(Page *p)
{
    char word[64];
    const Rates *r = &p->rates;
    begin(p, "rates");
    if (r->cpu_assumed) return;
    rates_word(word, sizeof word, false, r->cpu_age);
    row(p, "products", json_new_number(r->products[0][RATE_ROWS - 1] / 1e9),
        "%.0f GFLOP/s in f32 at 1,024 rows a matrix, %.0f at 64, %.1f at one (%s)", r->products[0][RATE_ROWS - 1] / 1e9,
        r->products[0][3] / 1e9, r->products[0][0] / 1e9, word);
    row(p, "memory", json_new_number(r->memory_update / 1e9), "%.1f GB/s read and written, %.1f read (%s)",
        r->memory_update / 1e9, r->memory_read / 1e9, word);
}

static void disk_rows(Page *p, const char *why)
{
    char word[64], folder[4096];
    const Rates *r = &p->rates;
    struct statvfs s;
    begin(p, "disk");
    if (!getcwd(folder, sizeof folder)) snprintf(folder, sizeof folder, ".");
    row(p, "folder", json_new_text(folder), "%s", folder);
    double free = statvfs(".", &s) ? 0 : (double)s.f_bavail * (double)s.f_frsize;
    row(p, "free", gb(free), "%.1f GB", free / 1e9);
    if (r->disk_assumed) {
        row(p, "rate", json_new_null(), "not measured: %s", why);
        return;
    }
    rates_word(word, sizeof word, false, r->disk_age);
    row(p, "read", json_new_number(r->disk_read / 1e9),
        "%.2f GB/s past the page cache, 16 MB at a time by two threads (%s)", r->disk_read / 1e9, word);
    row(p, "write", json_new_number(r->disk_write / 1e9), "%.2f GB/s (%s)", r->disk_write / 1e9, word);
}

static void program_row(Page *p, const char *name, const char *what)
{
    char command[128];
    snprintf(command, sizeof command, "command -v %s >/dev/null 2>&1", name);
    bool there = system(command) == 0;
    row(p, name, json_new_bool(there), "%s%s", there ? "there: " : "not there: ", what);
}

static void helper_rows(Page *p)
{
    Status st = {0};
    begin(p, "helpers");
    program_row(p, "bwrap", "rewards that run code need it");
    program_row(p, "prlimit", "limits of that code");
    bool ready = sandbox_ready(&st);
    row(p, "sandbox", json_new_bool(ready), "%s", ready ? "works" : st.text);
    program_row(p, "python3", "code rewards in Python, `log` to TensorBoard or W&B");
    GpuDevice card = {0};
    st = (Status){0};
    const GpuPlugin *plugin = plugin_load(DEVICE_GPU, &st);
    bool gpu = plugin && plugin->device(0, &card, &st);
    row(p, "gpu", gpu ? json_new_text(card.name) : json_new_null(), "%s", gpu ? card.name : st.text);
}

/* Whether a model larger than memory could be read from its folder while it is computed: routed experts pass, the rest stays. */
static bool streams(const Machine *m, const ModelConfig *c, size_t work)
{
    ParamTable t = params_build(c);
    size_t stays = 0, expert = 0;
    for (int i = 0; i < t.n_parts; i++) {
        size_t bytes = t.parts[i].count * dtype_size((DType)m->options.dtype);
        if (t.parts[i].expert < 0) stays += bytes;
        else if (bytes > expert) expert = bytes;
    }
    params_free(&t);
    return expert && stays + 4 * expert + work + m->memory / 100 < m->memory;
}

static const char *verdict(const Page *p, const char *what, const PlanWork *w)
{
    Status st = {0};
    Plan plan;
    if (plan_make(&plan, &p->machine, w, SIZE_MAX, what, &st)) return "yes";
    Status placed = {0};
    LoadedModel *m = w->rests ? placement_file(&p->machine, what, w->config, NULL, &placed) : NULL;
    bool fits = m && placement_stage(&plan, &p->machine, m, w, what, &placed);
    model_close(m);
    return fits ? "from its folder" : "no";
}

/* Adapters on all of attention, as the key `lora` has without targets. */
enum { ATTENTION = (1 << LORA_GATE_PROJ) - 1 };

static void model_rows(Page *p)
{
    begin(p, "models");
    for (int i = 0; known_model_name(i); i++) {
        ModelConfig c, lora;
        Status st = {0};
        CHECK(known_model(known_model_name(i), &c));
        PlanWork pass = {.config = &c, .sequences = 1, .length = 512, .predicted = 511}, step = pass, adapters = pass;
        lora = c;
        lora.lora = (LoraConfig){.rank = 16, .alpha = 32, .targets = lora_targets_of(&c) & ATTENTION};
        adapters.config = &lora;
        step.trains = adapters.trains = true;
        adapters.rests = true; /* frozen experts may stay in the folder */
        size_t beside = plan_beside_weights(&p->machine, &pass, &st),
               weights = plan_model_bytes(&p->machine, &c, false);
        const char *scores = weights + beside < p->machine.memory ? "yes"
                             : streams(&p->machine, &c, beside)   ? "from its folder"
                                                                  : "no";
        const char *trains = verdict(p, known_model_name(i), &step),
                   *adapts = verdict(p, known_model_name(i), &adapters);
        Json *o = json_new_object();
        json_set(o, "score", json_new_text(scores));
        json_set(o, "lora", json_new_text(adapts));
        json_set(o, "train", json_new_text(trains));
        row(p, known_model_name(i), o, "score %s, LoRA %s, training %s", scores, adapts, trains);
    }
}

/* Of the processor, and of the disk under the current folder. Returns why there is none of the disk. */
static void know_rates(Page *p, bool measure, Status *disk)
{
    enum { REQUEST = 16 << 20 };
    RateKeys keys;
    Status st = {0};
    rates_assume(&p->rates, &p->machine);
    rates_keys(&keys, &p->machine, NULL, ".", REQUEST);
    rates_load(&p->rates, &keys);
    bool cpu = measure || p->rates.cpu_assumed, disks = measure || p->rates.disk_assumed || p->rates.disk_write <= 0;
    if (!cpu && !disks) return;
    fprintf(stderr, "r1: measuring this machine, some seconds\n");
    if (cpu) rates_measure_cpu(&p->rates, &p->machine, &st);
    if (disks && !rates_measure_folder(&p->rates, ".", disk)) p->rates.disk_assumed = true;
    if (!rates_keep(&p->rates, &keys, NULL, 0, &st)) fprintf(stderr, "r1: %s\n", st.text);
}

bool machine_page_print(bool json, bool measure, Status *st)
{
    Status disk = {0};
    RuntimeOptions o = runtime_defaults();
    Page p = {.all = json_new_object(), .json = json};
    bool ok = machine_open(&p.machine, &o, st);
    if (ok) {
        know_rates(&p, measure, &disk);
        processor_rows(&p);
        memory_rows(&p);
        speed_rows(&p);
        disk_rows(&p, disk.text);
        helper_rows(&p);
        model_rows(&p);
    }
    if (ok && json) {
        char *text = json_write(p.all, true);
        puts(text);
        free(text);
    }
    json_free(p.all);
    if (p.machine.ops) machine_close(&p.machine);
    return ok;
}
