/* PEFT's adapter folders read: what the configuration may say, which keys and shapes belong to the model. */
#include "checkpoints/hf/peft.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "data/json.h"

struct Peft {
    char folder[4096], base[1024];
    StFile *f;
};

static const char prefix[] = "base_model.model.";

bool peft_is(const char *folder)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    return !access(path, F_OK);
}

const char *peft_base(const Peft *p)
{
    return p->base;
}

/* ---- adapter_config.json ---- */

/* Whether a value switches nothing on: absent, null, false, "none", [] or {}. */
static bool is_off(const Json *v)
{
    if (!v || json_is_null_value(v)) return true;
    if (json_is_bool(v)) return !json_bool(v);
    if (json_is_string(v)) return !strcmp(json_string(v, NULL), "none");
    return (json_is_array(v) || json_is_object(v)) && json_count(v) == 0;
}

/* What would make the adapter another function of its two matrices, or another base. */
static bool only_plain(const Json *o, const char *folder, Status *st)
{
    static const struct {
        const char *key, *what;
    } keys[] = {
        {"use_dora", "DoRA scales the rows of the sum"},
        {"rank_pattern", "ranks differ between modules"},
        {"alpha_pattern", "alphas differ between modules"},
        {"modules_to_save", "whole modules were trained beside the adapters"},
        {"target_parameters", "parameters are wrapped, not modules"},
        {"bias", "biases were trained too"},
        {"lora_bias", "B has a bias"},
        {"fan_in_fan_out", "the base's weights are transposed"},
        {"layer_replication", "layers of the base are repeated"},
        {"trainable_token_indices", "rows of the embedding were trained too"},
        {"use_qalora", "inputs are pooled"},
        {"use_bdlora", "the matrices are block-diagonal"},
        {"alora_invocation_tokens", "the adapter acts only after certain tokens"},
        {"arrow_config", "several adapters are mixed"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!is_off(json_get(o, keys[i].key)))
            return fail(st,
                        "%s: adapter_config.json has %s (%s), which plain LoRA does not have: merge it with peft and "
                        "import the merged model",
                        folder, keys[i].key, keys[i].what);
    static const char *const changed[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const char *init = json_string(json_get(o, "init_lora_weights"), NULL);
    for (size_t i = 0; init && i < sizeof changed / sizeof *changed; i++)
        if (!strncmp(init, changed[i], strlen(changed[i])))
            return fail(
                st,
                "%s: init_lora_weights is %.40s, which changed the base model's own weights: save it with peft's "
                "path_initial_model_for_weight_conversion",
                folder, init);
    return true;
}

static bool read_config(Peft *p, LoraConfig *l, Status *st)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/adapter_config.json", p->folder);
    Json *o = json_read(path, st);
    if (!o) return false;
    int64_t rank = 0;
    double alpha = 0;
    const char *type = json_get_string(o, "peft_type", "none");
    bool ok = json_is_object(o) || fail(st, "%s is no object", path);
    if (ok && strcmp(type, "LORA")) ok = fail(st, "%s: peft_type is %.40s; only LORA can be read", path, type);
    ok = ok && only_plain(o, p->folder, st) && json_get_int(o, "r", 8, &rank, st) &&
         json_get_double(o, "lora_alpha", 8, &alpha, st) && json_get_bool(o, "use_rslora", false, &l->rslora, st);
    if (ok && (rank < 1 || rank > 4096)) ok = fail(st, "%s: r is %" PRId64 ", no possible rank", path, rank);
    l->rank = (int)rank;
    l->alpha = (float)alpha;
    snprintf(p->base, sizeof p->base, "%s", json_get_string(o, "base_model_name_or_path", ""));
    json_free(o);
    return ok;
}

/* ---- adapter_model.safetensors ---- */

/* The matrix of the base that a key's module is, and whether the key is of its B; -1: none. */
static int matrix_of(const ParamTable *t, const char *key, bool *is_b)
{
    static const char *const ends[] = {".lora_A.weight", ".lora_B.weight"};
    char name[256];
    size_t n = strlen(key), start = strlen(prefix);
    if (strncmp(key, prefix, start)) return -1;
    for (int k = 0; k < 2; k++) {
        size_t end = strlen(ends[k]);
        if (n < start + end || n - start - end + sizeof ".weight" > sizeof name || strcmp(key + n - end, ends[k]))
            continue;
        snprintf(name, sizeof name, "%.*s.weight", (int)(n - start - end), key + start);
        *is_b = k == 1;
        return params_find_name(t, name);
    }
    return -1;
}

static bool check_tensor(const Peft *p, const ParamTable *t, LoraConfig *l, const StTensor *s, Status *st)
{
    bool is_b;
    int i = matrix_of(t, s->name, &is_b), target = i < 0 ? -1 : param_lora_target(t->params[i].kind);
    if (target < 0)
        return fail(st, "%s: %.160s is no adapter of a matrix of this model: is it of another base%s?", p->folder,
                    s->name,
                    strstr(s->name, "lora_embedding") || strstr(s->name, "lm_head") || strstr(s->name, "embed_tokens")
                        ? " (the embedding and the head have none here)"
                        : "");
    const Param *w = &t->params[i];
    size_t rows = is_b ? w->rows : (size_t)l->rank, cols = is_b ? (size_t)l->rank : w->cols;
    if (s->ndim != 2 || s->shape[0] != rows || s->shape[1] != cols)
        return fail(st, "%s: %.160s has shape [%" PRIu64 ", %" PRIu64 "], but r = %d and the base make it [%zu, %zu]",
                    p->folder, s->name, s->ndim > 0 ? s->shape[0] : 0, s->ndim > 1 ? s->shape[1] : 0, l->rank, rows,
                    cols);
    char other[300];
    snprintf(other, sizeof other, "%.*s%s", (int)(strlen(s->name) - strlen("A.weight")), s->name,
             is_b ? "A.weight" : "B.weight");
    if (!st_find(p->f, other)) return fail(st, "%s: %.160s has no partner %.200s", p->folder, s->name, other);
    l->targets |= 1u << target;
    return true;
}

static bool read_keys(Peft *p, const ModelConfig *base, LoraConfig *l, Status *st)
{
    ModelConfig plain = *base;
    plain.lora = (LoraConfig){0};
    ParamTable t = params_build(&plain);
    bool ok = st_count(p->f) > 0 || fail(st, "%s: adapter_model.safetensors holds no tensors", p->folder);
    for (size_t i = 0; ok && i < st_count(p->f); i++) ok = check_tensor(p, &t, l, st_at(p->f, i), st);
    params_free(&t);
    return ok;
}

Peft *peft_open(const char *folder, const ModelConfig *base, LoraConfig *lora, Status *st)
{
    Peft *p = calloc(1, sizeof *p);
    CHECK(p);
    char path[4200];
    *lora = (LoraConfig){0};
    bool ok = strlen(folder) < sizeof p->folder || fail(st, "path %.60s... is too long", folder);
    snprintf(p->folder, sizeof p->folder, "%s", folder);
    if (ok && !peft_is(folder))
        ok = fail(st, "%s has no adapter_config.json: it is no adapter that peft wrote", folder);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", p->folder);
    if (ok && access(path, F_OK))
        ok = fail(st, "%s is missing; an adapter_model.bin must be saved as safetensors first", path);
    ok = ok && read_config(p, lora, st) && (p->f = st_open(path, st)) && read_keys(p, base, lora, st);
    if (ok) return p;
    peft_close(p);
    return NULL;
}

void peft_close(Peft *p)
{
    if (!p) return;
    st_close(p->f);
    free(p);
}

bool peft_fill(const Peft *p, const ParamTable *t, float *adapters, int *missing, Status *st)
{
    char key[160];
    size_t first;
    params_adapters(t, &first);
    *missing = 0;
    for (int i = t->adapters; i < t->n; i++) {
        const Param *a = &t->params[i];
        snprintf(key, sizeof key, "%s%s", prefix, a->name);
        const StTensor *s = st_find(p->f, key);
        float *to = adapters + (a->offset - first);
        if (!s) {
            memset(to, 0, a->count * sizeof *to);
            *missing += a->kind == PARAM_LORA_A;
        } else if (!st_read_f32(s, to, st)) {
            return fail_prefix(st, "%s", p->folder);
        }
    }
    return true;
}
