/* Adapters in a checkpoint's config, added to a model, merged into its matrices. */
#include "checkpoints/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/peft.h"
#include "core/base/check.h"
#include "core/base/memory.h"

void lora_config_write(Json *config, const LoraConfig *l)
{
    if (!l->rank) return;
    Json *o = json_new_object(), *targets = json_new_array();
    json_set(o, "r", json_new_int(l->rank));
    json_set(o, "lora_alpha", json_new_number((double)l->alpha));
    json_set(o, "use_rslora", json_new_bool(l->rslora));
    for (int i = 0; i < LORA_TARGETS; i++)
        if (l->targets >> i & 1) json_append(targets, json_new_text(lora_target_name(i)));
    json_set(o, "targets", targets);
    json_set(config, "lora", o);
}

/* The target of that name, or -1. */
static int target_of(const char *name)
{
    for (int i = 0; name && i < LORA_TARGETS; i++)
        if (!strcmp(name, lora_target_name(i))) return i;
    return -1;
}

bool lora_config_read(const Json *config, ModelConfig *c, Status *st)
{
    const Json *o = json_get(config, "lora"), *targets = json_get(o, "targets");
    int64_t rank;
    double alpha;
    LoraConfig l = {0};
    if (!o) return true;
    if (!json_get_int(o, "r", 0, &rank, st) || !json_get_double(o, "lora_alpha", 0, &alpha, st) ||
        !json_get_bool(o, "use_rslora", false, &l.rslora, st))
        return false;
    l.rank = rank < 1 || rank > INT32_MAX ? -1 : (int)rank;
    l.alpha = (float)alpha;
    for (size_t i = 0; i < json_count(targets); i++) {
        int bit = target_of(json_string(json_at(targets, i), NULL));
        if (bit < 0) return fail(st, "the config names adapters (lora.targets) that this program does not know");
        l.targets |= 1u << bit;
    }
    c->lora = l;
    return config_validate(c, st);
}

/* The model holds `block` of `table` instead of what it held. */
static void replace_weights(LoadedModel *m, float *block, ParamTable table, const ModelConfig *config)
{
    memory_free(m->weights);
    params_free(&m->table);
    m->weights = block;
    m->table = table;
    m->config = *config;
}

/* Room for adapters: behind m's weights, or where these stay in their file in m->adapters. NULL: none. */
static float *grow(LoadedModel *m, const LoraConfig *l, Status *st)
{
    ModelConfig config = m->config;
    config.lora = *l;
    CHECK(!m->config.lora.rank);
    if (!config_validate(&config, st)) {
        fail_prefix(st, "%s", m->path);
        return NULL;
    }
    ParamTable table = params_build(&config);
    size_t first, own = params_adapters(&table, &first), n = m->weights ? table.total : own;
    float *block = memory_block(n * sizeof *block);
    if (!block) {
        params_free(&table);
        fail(st, "%s needs %.1f GB for its weights and adapters, which this machine does not give", m->path,
             (double)n * sizeof *block / 1e9);
        return NULL;
    }
    if (m->weights) {
        memcpy(block, m->weights, m->table.total * sizeof *block);
        replace_weights(m, block, table, &config);
        return block + first;
    }
    m->adapters = block;
    replace_weights(m, NULL, table, &config);
    return block;
}

bool model_add_lora(LoadedModel *m, const LoraConfig *l, uint32_t seed, Status *st)
{
    float *adapters = grow(m, l, st);
    if (adapters) params_init_adapters(&m->table, adapters, seed);
    return adapters != NULL;
}

bool model_add_adapter(LoadedModel *m, const char *folder, Status *st)
{
    LoraConfig l;
    int missing;
    if (m->config.lora.rank)
        return fail(st, "%s has adapters already; merge them with `r1 export %s --format hf` before others are added",
                    m->path, m->path);
    Peft *p = peft_open(folder, &m->config, &l, st);
    if (!p) return false;
    float *adapters = grow(m, &l, st);
    if (adapters) params_init_adapters(&m->table, adapters, 0); /* zeros between the tensors */
    bool ok = adapters && peft_fill(p, &m->table, adapters, &missing, st);
    if (ok && missing)
        fprintf(stderr, "%s: %d matrices of the kinds that it adapts have no adapter in it; they stay as they are\n",
                folder, missing);
    peft_close(p);
    return ok;
}

ModelConfig lora_merged_config(const ModelConfig *c)
{
    ModelConfig merged = *c;
    merged.lora = (LoraConfig){0};
    return merged;
}

/* Rows [row, row + n) of a matrix: w += s B A, the sum over the rank in ascending order. */
static void add_product(float *w, const Param *p, size_t n, const float *a, const float *b, const LoraConfig *l)
{
    size_t rank = (size_t)l->rank;
    float s = lora_scale(l);
    for (size_t o = 0; o < n; o++)
        for (size_t k = 0; k < rank; k++) {
            float factor = s * b[o * rank + k];
            float *row = w + o * p->cols;
            const float *from = a + k * p->cols;
            for (size_t j = 0; j < p->cols; j++) row[j] += factor * from[j];
        }
}

static bool merged_rows(const void *of, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    const LoadedModel *m = of;
    const ParamTable *t = &m->table;
    WeightSource own = model_source(m);
    int i = params_find_name(t, p->name);
    CHECK(i >= 0 && t->params[i].count == p->count);
    bool ok = n == p->rows ? own.read(m, &t->params[i], out, st) : own.rows(m, &t->params[i], row, n, out, st);
    if (!ok || t->lora[i][0] < 0) return ok;
    const Param *pa = &t->params[t->lora[i][0]], *pb = &t->params[t->lora[i][1]];
    float *a = source_read(&own, pa, st), *b = a ? source_read(&own, pb, st) : NULL;
    if (b) add_product(out, p, n, a, b + row * pb->cols, &m->config.lora);
    free(a), free(b);
    return b != NULL;
}

static bool merged_read(const void *m, const Param *p, float *out, Status *st)
{
    return merged_rows(m, p, 0, p->rows, out, st);
}

WeightSource merged_source(const LoadedModel *m)
{
    return m->table.lora ? (WeightSource){.read = merged_read, .from = m, .rows = merged_rows} : model_source(m);
}
