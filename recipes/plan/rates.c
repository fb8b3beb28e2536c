/* From rates and counted ops to seconds. */
#include "recipes/plan/rates.h"

#include <math.h>
#include <string.h>

const int rate_rows[RATE_ROWS] = {1, 4, 16, 64, 256, 1024};

double rates_product(const Rates *r, int k, double rows)
{
    const double *of = r->products[k];
    if (rows <= rate_rows[0]) return of[0];
    for (int i = 1; i < RATE_ROWS; i++) {
        if (rows > rate_rows[i]) continue;
        double share = log(rows / rate_rows[i - 1]) / log((double)rate_rows[i] / rate_rows[i - 1]);
        return of[i - 1] + share * (of[i] - of[i - 1]);
    }
    return of[RATE_ROWS - 1];
}

double rates_busy(const ModelConfig *c, double tokens)
{
    if (c->E == 0) return 0;
    return c->E * (1 - pow(1 - (double)c->K / c->E, tokens));
}

/* Which of the three products an op is. */
static int kind_of(const char *op)
{
    return strstr(op, "_bwd_x") ? 1 : strstr(op, "_bwd_w") ? 2 : 0;
}

/* An op that moves values, or attention, whose scores are computed at the rate of small products. */
static double other_seconds(const Rates *r, const OpTime *o)
{
    double moving = (o->read + o->written) / r->memory_update, computing = o->flops / rates_product(r, 0, 16);
    return moving > computing ? moving : computing;
}

double rates_seconds(const Rates *r, const PlanOps *ops, const ModelConfig *c, double tokens)
{
    double seconds = 0, an_expert = c->E ? tokens * c->K / rates_busy(c, tokens) : 0;
    for (int i = 0; i < ops->n; i++) {
        const OpTime *o = &ops->list[i];
        double rows = o->out ? o->flops / (2.0 * (double)o->out * (double)o->in * (double)o->calls) : 0;
        bool grouped = !strncmp(o->op, "grouped", 7);
        seconds +=
            o->out ? o->flops / rates_product(r, kind_of(o->op), grouped ? an_expert : rows) : other_seconds(r, o);
    }
    return seconds;
}

double rates_token_seconds(const Rates *r, const PlanOps *ops)
{
    double seconds = 0;
    for (int i = 0; i < ops->n; i++) {
        const OpTime *o = &ops->list[i];
        double rows = o->out ? o->flops / (2.0 * (double)o->out * (double)o->in * (double)o->calls) : 2;
        seconds += (o->out ? o->flops / rates_product(r, 0, 1) : other_seconds(r, o)) / (rows > 1 ? 2 : 1);
    }
    return seconds;
}

void rates_of_peaks(Rates *r, double flops, double read, double update, DType type)
{
    for (int k = 0; k < RATE_PRODUCTS; k++)
        for (int i = 0; i < RATE_ROWS; i++) {
            double reading = 2.0 * rate_rows[i] / (double)dtype_size(type) * read;
            r->products[k][i] = reading < flops ? reading : flops;
        }
    r->memory_read = read, r->memory_update = update;
}

void rates_assume(Rates *r, const Machine *machine)
{
    /* Of a core with AVX-512 that others share, in bf16 and f32 (docs/placement.md); products of few rows read the weights. */
    static const double of_rows[RATE_ROWS] = {0.06, 0.2, 0.43, 0.75, 0.94, 1}, memory = 15e9, disk = 1e9;
    double core = machine->options.dtype == DTYPE_BF16 ? 75e9 : 40e9, threads = machine_processors();
    *r = (Rates){.memory_read = memory, .memory_update = memory, .disk_read = disk, .disk_write = disk / 2};
    for (int k = 0; k < RATE_PRODUCTS; k++)
        for (int i = 0; i < RATE_ROWS; i++) r->products[k][i] = core * threads * of_rows[i];
    r->cpu_assumed = r->disk_assumed = true;
}
