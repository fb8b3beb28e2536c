/* Numbers that a person gives in place of measured ones. */
#include "recipes/plan/plan_as.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/gpu.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/model/plugin.h"

/* Memory of a GPU that the driver's context takes; bytes a second of its memory where products have few rows. */
static const double CONTEXT = 0.6e9, GPU_STREAM = 1e12, LINK = 25e9;

/* A number above 0 at `text`, and what follows it. */
static bool number(const char *text, double *out, const char **rest)
{
    char *end;
    *out = strtod(text, &end);
    *rest = end;
    return end != text && *out > 0 && *out < 1e9;
}

static bool parse_item(const char *item, PlanAs *out, Status *st)
{
    static const char *const names[] = {"gpu", "link", "ram", "cpu", "disk"};
    double *values[] = {&out->gpu_bytes, &out->link, &out->ram, &out->flops, &out->disk};
    char word[16], hint[64];
    const char *rest = "";
    size_t n = strcspn(item, "=");
    snprintf(word, sizeof word, "%.*s", (int)n, item);
    Nearest near = nearest_start(word);
    for (int i = 0; i < 5; i++) {
        nearest_try(&near, names[i]);
        if (strcmp(word, names[i])) continue;
        bool ok = item[n] && number(item + n + 1, values[i], &rest);
        *values[i] *= 1e9;
        if (i == 0) {
            out->gpu = true;
            ok = ok && *rest == ':' && number(rest + 1, &out->flops, &rest) && !strcmp(rest, "TF");
            out->flops *= 1e12;
        } else if (i == 3) {
            ok = ok && !strcmp(rest, "GF");
        } else {
            ok = ok && !*rest;
        }
        return ok || fail(st,
                          "--as %s: expected gpu=GB:TFLOPSTF (as in gpu=24:60TF), link=GB/s, ram=GB, cpu=GFLOPSGF or "
                          "disk=GB/s",
                          item);
    }
    return fail(st, "--as %s: unknown%s", word, nearest_hint(&near, hint, sizeof hint));
}

bool plan_as_parse(const char *text, PlanAs *out, Status *st)
{
    *out = (PlanAs){0};
    while (*text) {
        char item[64];
        size_t n = strcspn(text, ",");
        snprintf(item, sizeof item, "%.*s", (int)n, text);
        if (!parse_item(item, out, st)) return false;
        text += n + (text[n] == ',');
    }
    return out->gpu || out->ram > 0 || out->flops > 0 || out->disk > 0 ||
           fail(st, "--as needs gpu, ram, cpu or disk, as in gpu=24:60TF,link=25,ram=64");
}

void plan_as_apply(const PlanAs *as, Machine *m, Rates *r)
{
    rates_assume(r, m);
    double peak = r->products[0][RATE_ROWS - 1];
    for (int k = 0; k < RATE_PRODUCTS; k++)
        for (int i = 0; i < RATE_ROWS && as->flops > 0; i++) r->products[k][i] *= as->flops / peak;
    if (as->gpu) rates_of_peaks(r, as->flops, GPU_STREAM, GPU_STREAM, (DType)m->options.dtype);
    if (as->disk > 0) r->disk_read = as->disk;
    if (as->gpu) r->disk_read = as->link > 0 ? as->link : LINK;
    if (as->gpu) m->memory = (size_t)(as->gpu_bytes > CONTEXT ? as->gpu_bytes - CONTEXT : 1);
    else if (as->ram > 0 && m->options.memory_gb <= 0) m->memory = (size_t)as->ram;
}

/* Why --device gpu has no card: no plugin, no driver. False: it has one. */
static bool no_card(const RuntimeOptions *o, Status *why)
{
    DeviceName device;
    Status ignored = {0};
    if (!device_parse(o->device, &device, &ignored) || device.kind != DEVICE_GPU) return false;
    const GpuPlugin *plugin = plugin_load(DEVICE_GPU, why);
    return !plugin || plugin->devices(why) == 0;
}

bool plan_machine(Machine *m, const RuntimeOptions *o, Status *st)
{
    Status why = {0}, none = {0};
    RuntimeOptions emulated = *o;
    if (!no_card(o, &why)) return machine_open(m, o, st);
    emulated.device = "emulated";
    if (!machine_open(m, &emulated, &none)) return fail(st, "%s", why.text);
    if (o->memory_gb <= 0) m->memory = SIZE_MAX;
    fprintf(
        stderr,
        "r1: %s\nr1: planned without a card: its memory, as the emulated GPU counts it; what a card can do, say with "
        "--as gpu=24:60TF and --memory\n",
        why.text);
    return true;
}

static size_t paper_room(const PartSource *s, int part)
{
    enum { PAGE = 4096 };
    const PaperSource *p = (const PaperSource *)(const void *)s;
    const Part *its = &p->table->parts[part];
    size_t bytes = 0;
    for (int i = 0; i < its->n; i++)
        if (!p->table->params[its->first + i].apart) bytes += param_bytes(&p->table->params[its->first + i], p->form);
    return bytes ? (bytes + 2 * PAGE - 1) / PAGE * PAGE : 0;
}

static uint64_t paper_bytes(const PartSource *s, int part)
{
    return paper_room(s, part);
}

void paper_source(PaperSource *out, const ParamTable *t, Form form)
{
    *out = (PaperSource){{.room = paper_room, .bytes = paper_bytes}, t, form};
}
