/* Adapters written as PEFT keeps them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/float16.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/hf/peft.h"
#include "core/base/check.h"

/* What is written: of each of the model's own parameters, whether it has an adapter that adds something, or will. */
typedef struct Adapters {
    const ParamTable *t;
    const WeightSource *weights;
    bool *has; /* [t->adapters] */
} Adapters;

static bool is_zero(void *to, const float *w, size_t row, size_t n, Status *st)
{
    const Param *p = to;
    (void)row, (void)st;
    for (size_t i = 0; i < n * p->cols; i++)
        if (w[i] != 0.0f) return false;
    return true;
}

/* False where it could not be read. */
static bool find_adapters(Adapters *a, Status *st)
{
    const ParamTable *t = a->t;
    a->has = calloc((size_t)t->n, sizeof *a->has);
    CHECK(a->has);
    for (int i = t->adapters; i < t->n; i++) {
        Param p = t->params[i];
        if (!a->has[p.base]) a->has[p.base] = !source_rows(a->weights, &p, is_zero, &p, st);
        if (st->failed) return false;
    }
    return true;
}

/* The module's name between its layer and ".weight": "self_attn.q_proj"; an expert's without its number. */
static void module_of(const Param *p, char *out, size_t size)
{
    const char *dot = strrchr(p->name, '.'), *at = p->name;
    int dots = p->expert >= 0 ? 6 : 3; /* model.layers.N. / model.layers.N.mlp.experts.M. */
    while (dots && (at = strchr(at, '.') + 1)) dots--;
    snprintf(out, size, "%.*s", (int)(dot - at), at);
}

static void escape(FILE *f, const char *name)
{
    for (; *name; name++) fprintf(f, *name == '.' ? "\\." : "%c", *name);
}

/* The regular expression of exactly the modules that have an adapter; a list of names would also mean modules that have
 * none (the experts' gate_proj beside the dense one's). A kind of module that has one wherever it is becomes \d+, others
 * stand one by one. */
static char *target_modules(const Adapters *a)
{
    const ParamTable *t = a->t;
    char *text = NULL, module[96], other[96];
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    const char *separator = "";
    for (int i = 0; i < t->adapters; i++) {
        const Param *p = &t->params[i];
        if (!a->has[i]) continue;
        bool first = true, everywhere = true;
        module_of(p, module, sizeof module);
        for (int k = 0; k < t->adapters; k++) {
            const Param *q = &t->params[k];
            if (q->layer < 0 || (q->expert < 0) != (p->expert < 0)) continue;
            module_of(q, other, sizeof other);
            if (strcmp(module, other)) continue;
            everywhere = everywhere && a->has[k];
            if (k < i && a->has[k]) first = false;
        }
        if (everywhere && !first) continue;
        fprintf(f, "%smodel\\.layers\\.", separator);
        if (everywhere) fprintf(f, "\\d+\\.%s", p->expert >= 0 ? "mlp\\.experts\\.\\d+\\." : "");
        else if (p->expert >= 0) fprintf(f, "%d\\.mlp\\.experts\\.%d\\.", p->layer, p->expert);
        else fprintf(f, "%d\\.", p->layer);
        escape(f, module);
        separator = "|";
    }
    CHECK(!fclose(f));
    return text;
}

static Json *config_json(const ModelConfig *c, const Adapters *a, const char *base)
{
    Json *o = json_new_object();
    char *targets = target_modules(a);
    json_set(o, "peft_type", json_new_text("LORA"));
    json_set(o, "task_type", json_new_text("CAUSAL_LM"));
    json_set(o, "base_model_name_or_path", base[0] ? json_new_text(base) : json_new_null());
    json_set(o, "r", json_new_int(c->lora.rank));
    json_set(o, "lora_alpha", json_new_number((double)c->lora.alpha));
    json_set(o, "use_rslora", json_new_bool(c->lora.rslora));
    json_set(o, "target_modules", json_new_text(targets));
    json_set(o, "bias", json_new_text("none"));
    json_set(o, "fan_in_fan_out", json_new_bool(false));
    json_set(o, "lora_dropout", json_new_number(0.0));
    json_set(o, "init_lora_weights", json_new_bool(true));
    json_set(o, "inference_mode", json_new_bool(true));
    free(targets);
    return o;
}

/* The key of parameter i; false: it is not written. */
static bool key_of(const Adapters *a, int i, char key[160])
{
    snprintf(key, 160, "base_model.model.%s", a->t->params[i].name);
    return a->has[a->t->params[i].base];
}

static bool write_values(StWriter *w, const Adapters *a, int i, StDtype dtype, Status *st)
{
    char key[160];
    const Param *p = &a->t->params[i];
    if (!key_of(a, i, key)) return true;
    float *values = source_read(a->weights, p, st);
    const float *over = values && dtype == ST_F16 ? beyond_f16(values, p->count) : NULL;
    bool ok = values != NULL;
    if (over) ok = fail(st, "%s holds %g, too large for f16: export as bf16 or f32", p->name, (double)*over);
    ok = ok && st_writer_data(w, key, values, st);
    free(values);
    return ok;
}

static bool write_tensors(const char *folder, const Adapters *a, StDtype dtype, Status *st)
{
    char path[4400], key[160];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    StWriter *w = st_writer_open(path, st);
    if (!w) return false;
    st_writer_metadata(w, "format", "pt");
    for (int i = a->t->adapters; i < a->t->n; i++) {
        const Param *p = &a->t->params[i];
        if (key_of(a, i, key)) st_writer_add(w, key, dtype, 2, (uint64_t[]){p->rows, p->cols});
    }
    bool ok = true;
    for (int i = a->t->adapters; ok && i < a->t->n; i++) ok = write_values(w, a, i, dtype, st);
    if (ok) return st_writer_close(w, st);
    st_writer_abandon(w);
    return false;
}

bool peft_write(const char *folder, const ModelConfig *c, const ParamTable *t, WeightSource weights, StDtype dtype,
                const char *base, Status *st)
{
    char path[4400];
    CHECK(c->lora.rank > 0);
    Adapters a = {.t = t, .weights = &weights};
    bool ok = find_adapters(&a, st) && hf_make_folder(folder, st) && write_tensors(folder, &a, dtype, st);
    if (ok) {
        snprintf(path, sizeof path, "%s/adapter_config.json", folder);
        Json *o = config_json(c, &a, base);
        ok = json_write_file(o, path, st);
        json_free(o);
    }
    free(a.has);
    return ok;
}
