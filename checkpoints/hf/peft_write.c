/* Adapters written as PEFT keeps them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/float16.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/hf/peft.h"
#include "core/base/check.h"

static bool is_zero(const float *w, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (w[i] != 0.0f) return false;
    return true;
}

/* Whether parameter i has an adapter that adds something, or will. */
static bool has_adapter(const ParamTable *t, const float *weights, int i)
{
    if (i >= t->adapters || t->lora[i][0] < 0) return false;
    const Param *a = &t->params[t->lora[i][0]], *b = &t->params[t->lora[i][1]];
    return !is_zero(weights + a->offset, a->count) || !is_zero(weights + b->offset, b->count);
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
static char *target_modules(const ParamTable *t, const float *weights)
{
    char *text = NULL, module[96], other[96];
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    const char *separator = "";
    for (int i = 0; i < t->adapters; i++) {
        const Param *p = &t->params[i];
        if (!has_adapter(t, weights, i)) continue;
        bool first = true, everywhere = true;
        module_of(p, module, sizeof module);
        for (int k = 0; k < t->adapters; k++) {
            const Param *q = &t->params[k];
            if (q->layer < 0 || (q->expert < 0) != (p->expert < 0)) continue;
            module_of(q, other, sizeof other);
            if (strcmp(module, other)) continue;
            everywhere = everywhere && has_adapter(t, weights, k);
            if (k < i && has_adapter(t, weights, k)) first = false;
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

static Json *config_json(const ModelConfig *c, const ParamTable *t, const float *weights, const char *base)
{
    Json *o = json_new_object();
    char *targets = target_modules(t, weights);
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

/* Calls each for A and B of every adapter that adds something. */
static bool each_tensor(const ParamTable *t, const float *weights,
                        bool (*each)(void *to, const char *key, const Param *p, const float *values, Status *st),
                        void *to, Status *st)
{
    char key[160];
    for (int i = t->adapters; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (!has_adapter(t, weights, p->base)) continue;
        snprintf(key, sizeof key, "base_model.model.%s", p->name);
        if (!each(to, key, p, weights + p->offset, st)) return false;
    }
    return true;
}

typedef struct Writing {
    StWriter *w;
    StDtype dtype;
} Writing;

static bool declare(void *to, const char *key, const Param *p, const float *values, Status *st)
{
    const Writing *k = to;
    (void)values, (void)st;
    st_writer_add(k->w, key, k->dtype, 2, (uint64_t[]){p->rows, p->cols});
    return true;
}

static bool write_values(void *to, const char *key, const Param *p, const float *values, Status *st)
{
    const Writing *k = to;
    const float *over = k->dtype == ST_F16 ? beyond_f16(values, p->count) : NULL;
    if (over) return fail(st, "%s holds %g, too large for f16: export as bf16 or f32", p->name, (double)*over);
    return st_writer_data(k->w, key, values, st);
}

bool peft_write(const char *folder, const ModelConfig *c, const ParamTable *t, const float *weights, StDtype dtype,
                const char *base, Status *st)
{
    char path[4400];
    CHECK(c->lora.rank > 0);
    if (!hf_make_folder(folder, st)) return false;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    Writing k = {st_writer_open(path, st), dtype};
    if (!k.w) return false;
    st_writer_metadata(k.w, "format", "pt");
    bool ok = each_tensor(t, weights, declare, &k, st) && each_tensor(t, weights, write_values, &k, st);
    if (ok) ok = st_writer_close(k.w, st);
    else st_writer_abandon(k.w);
    if (!ok) return false;
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    Json *o = config_json(c, t, weights, base);
    ok = json_write_file(o, path, st);
    json_free(o);
    return ok;
}
