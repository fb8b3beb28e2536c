/* The plan object as a table and as JSON. */
#include <stdio.h>
#include <string.h>

#include "recipes/plan/placement.h"

const char *rates_word(char *out, size_t size, bool assumed, double age)
{
    if (assumed) snprintf(out, size, "modelled");
    else if (age < 120) snprintf(out, size, "measured now");
    else if (age < 7200) snprintf(out, size, "measured %.0f min ago", age / 60);
    else if (age < 172800) snprintf(out, size, "measured %.0f hours ago", age / 3600);
    else snprintf(out, size, "measured %.0f days ago", age / 86400);
    return out;
}

static void row(const char *what, double bytes)
{
    if (bytes > 0) printf("    %-58s %8.2f\n", what, bytes / 1e9);
}

static void print_memory(const Placement *p)
{
    const PlacingPlan *f = &p->fit;
    const Beside *b = &p->beside;
    char line[96];
    double interior = p->trains ? (double)p->kept : 0, margin = (double)placing_margin(f->budget);
    double rest =
        (double)f->work - margin - (double)(b->process + b->scratch + b->cache + b->state + b->others) - interior;
    printf("  %-9s                                                            GB\n",
           p->gpu ? "on the GPU" : "in memory");
    row("process", (double)b->process);
    row("embedding, norm, head, what every token uses of a layer", (double)f->trunk);
    row("what is trained: weights, gradients and moments", (double)b->state);
    row("other models", (double)b->others);
    row("keys and values, sampled tokens", (double)b->cache);
    snprintf(line, sizeof line, "interiors of %d of %d layers", p->layers_kept, p->model.layers);
    row(line, interior);
    snprintf(line, sizeof line, "activations, head chunk of %d rows", p->chunk);
    row(line, rest);
    row("threads' scratch", (double)b->scratch);
    row("reader, page tables", margin + (double)f->staging);
    if (f->experts > f->pinned) {
        snprintf(line, sizeof line, "ring of %d experts of %.1f MB", f->slots, (double)f->slot / 1e6);
        row(line, (double)f->slot * f->slots);
    }
    snprintf(line, sizeof line, "%d of %d experts", f->pinned, f->experts);
    row(line, (double)f->slot * f->pinned);
    snprintf(line, sizeof line, "together, of %.2f", (double)f->budget / 1e9);
    row(line, (double)f->total);
    printf("  %s\n", p->gpu ? "in RAM" : "on disk");
    snprintf(line, sizeof line, "the other %ld experts, brought when they are needed", f->pass.experts);
    row(line, (double)f->pass.bytes);
    if (p->holes) printf("    (%ld of all experts lie in holes of their files, which cost no disk time)\n", p->holes);
}

/* What experts pass. */
static const char *way_of(const Placement *p)
{
    return p->gpu ? "link" : "disk";
}

static const char *bound_of(const Placement *p, const PlaceCost *c)
{
    return c->compute >= c->disk ? "compute" : way_of(p);
}

static void print_cost(const Placement *p, const PlanWork *w)
{
    const PlaceCost *c = &p->cost;
    char line[96];
    printf("  a %s of %.0f tokens (%d x %d)                                        s\n", p->trains ? "step" : "pass",
           c->tokens, w->sequences, w->length);
    snprintf(line, sizeof line, "compute, %.2f TFLOP", c->flops / 1e12);
    printf("    %-58s %8.1f\n", line, c->compute);
    snprintf(line, sizeof line, "%s, %.0f experts, %.2f GB", way_of(p), c->experts, c->bytes / 1e9);
    printf("    %-58s %8.1f\n", line, c->disk);
    snprintf(line, sizeof line, "together; bound: %s; %.3g tokens/s", bound_of(p, c), c->tokens / c->seconds);
    printf("    %-58s %8.1f\n", line, c->seconds);
    if (p->token.seconds > 0)
        printf("  a token of `r1 generate`, one sequence: %.2f s, of which %.2f for %.0f experts by the %s\n",
               p->token.seconds, p->token.disk, p->token.experts, way_of(p));
}

static void print_rates(const Placement *p, const Machine *m, const Rates *r)
{
    char cpu[64], disk[64];
    if (p->assumed) {
        printf("modelled: --as %s; nothing was measured\n", p->assumed);
        return;
    }
    printf("this machine, %s: %.0f GFLOP/s at 1,024 rows a matrix, %.0f at 64, %.1f at one; memory %.1f GB/s (%s);\n"
           "  disk %.2f GB/s in reads of %.1f MB (%s)\n",
           dtype_name((DType)m->options.dtype), r->products[0][5] / 1e9, r->products[0][3] / 1e9,
           r->products[0][0] / 1e9, r->memory_update / 1e9, rates_word(cpu, sizeof cpu, r->cpu_assumed, r->cpu_age),
           r->disk_read / 1e9, (double)r->disk_request / 1e6,
           rates_word(disk, sizeof disk, r->disk_assumed, r->disk_age));
}

void placement_print(const Placement *p, const LoadedModel *file, const Machine *m, const PlanWork *w,
                     const Rates *rates)
{
    printf("%s: %zu parameters%s%s; ", file->path, file->table.count, file->file_types[0] ? ", in its files " : "",
           file->file_types);
    if (p->trains)
        printf("%zu of %zu trained, backward through %d layers\n", p->beside.trained, p->beside.count, p->model.layers);
    else printf("nothing is trained\n");
    print_rates(p, m, rates);
    printf("\n");
    print_memory(p);
    print_cost(p, w);
    if (rates->cpu_assumed || rates->disk_assumed)
        printf("  modelled: %s\n", rates->cpu_assumed && rates->disk_assumed
                                       ? "the rates are assumed, nothing was measured"
                                   : rates->cpu_assumed ? "the processor's rates are assumed"
                                                        : "the disk's rate is assumed");
}

static Json *cost_json(const Placement *p, const PlaceCost *c)
{
    Json *o = json_new_object();
    json_set(o, "tokens", json_new_number(c->tokens));
    json_set(o, "flops", json_new_number(c->flops));
    json_set(o, "experts_read", json_new_number(c->experts));
    json_set(o, "bytes_read", json_new_number(c->bytes));
    json_set(o, "compute_seconds", json_new_number(c->compute));
    json_set(o, "disk_seconds", json_new_number(c->disk));
    json_set(o, "seconds", json_new_number(c->seconds));
    json_set(o, "bound", json_new_text(bound_of(p, c)));
    return o;
}

static void set_bytes(Json *o, const char *name, double bytes)
{
    json_set(o, name, json_new_int((int64_t)bytes));
}

static Json *memory_json(const Placement *p)
{
    Json *o = json_new_object();
    const PlacingPlan *f = &p->fit;
    set_bytes(o, "budget", (double)f->budget);
    set_bytes(o, "total", (double)f->total);
    set_bytes(o, "process", (double)p->beside.process);
    set_bytes(o, "trunk", (double)f->trunk);
    set_bytes(o, "state", (double)p->beside.state);
    set_bytes(o, "work", (double)f->work);
    set_bytes(o, "kept_interiors", p->trains ? (double)p->kept : 0);
    set_bytes(o, "ring", (double)f->slot * f->slots);
    set_bytes(o, "experts", (double)f->slot * f->pinned);
    return o;
}

static Json *rates_json(const Rates *r)
{
    Json *o = json_new_object(), *rows = json_new_array(), *flops = json_new_array();
    for (int i = 0; i < RATE_ROWS; i++) {
        json_append(rows, json_new_int(rate_rows[i]));
        json_append(flops, json_new_number(r->products[0][i]));
    }
    json_set(o, "processor", json_new_text(r->cpu_assumed ? "modelled" : "measured"));
    json_set(o, "rows", rows);
    json_set(o, "flops_per_s", flops);
    json_set(o, "memory_bytes_per_s", json_new_number(r->memory_update));
    json_set(o, "disk", json_new_text(r->disk_assumed ? "modelled" : "measured"));
    json_set(o, "disk_read_bytes_per_s", json_new_number(r->disk_read));
    return o;
}

Json *placement_json(const Placement *p, const LoadedModel *file, const Machine *m, const PlanWork *w,
                     const Rates *rates)
{
    Json *o = json_new_object();
    const PlacingPlan *f = &p->fit;
    json_set(o, "model", json_new_text(file->path));
    if (p->assumed) json_set(o, "modelled_as", json_new_text(p->assumed));
    json_set(o, "precision", json_new_text(dtype_name((DType)m->options.dtype)));
    json_set(o, "parameters", json_new_int((int64_t)file->table.count));
    json_set(o, "trained", json_new_int(p->trains ? (int64_t)p->beside.trained : 0));
    json_set(o, "sequences", json_new_int(w->sequences));
    json_set(o, "length", json_new_int(w->length));
    json_set(o, "layers_kept", json_new_int(p->layers_kept));
    json_set(o, "chunk", json_new_int(p->chunk));
    json_set(o, "experts", json_new_int(f->experts));
    json_set(o, "experts_in_memory", json_new_int(f->pinned));
    json_set(o, "ring", json_new_int(f->slots));
    json_set(o, "experts_in_holes", json_new_int(p->holes));
    json_set(o, "memory", memory_json(p));
    json_set(o, "rates", rates_json(rates));
    json_set(o, p->trains ? "step" : "pass", cost_json(p, &p->cost));
    json_set(o, "token", cost_json(p, &p->token));
    return o;
}
