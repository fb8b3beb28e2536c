/* `r1 inspect MODEL`: config, parameter table, counts, hashes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hash.h"
#include "checkpoints/hf/hf.h"
#include "core/base/check.h"
#include "core/rollout/kv_cache.h"
#include "recipes/cli/inspect.h"
#include "recipes/cli/json_lines.h"

/* Tensors of one name (layer and expert apart) and one shape. */
typedef struct Row {
    char name[88];
    size_t rows, cols;
    int ndim, tensors;
    size_t parameters;
} Row;

/* Copies name with its first `numbers` numbers between dots replaced by a star. */
static void pattern(char *out, const char *name, int numbers)
{
    while (*name) {
        size_t n = strspn(name, "0123456789");
        bool number = n && numbers > 0 && name[n] == '.';
        if (number) {
            *out++ = '*';
            numbers--;
        }
        size_t copied = number ? 0 : n ? n : 1;
        memcpy(out, name, copied);
        out += copied;
        name += n ? n : 1;
    }
    *out = 0;
}

static int collect(const ParamTable *t, bool each, Row **out)
{
    Row *rows = NULL;
    int n = 0, capacity = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        Row row = {.rows = p->rows, .cols = p->cols, .ndim = p->ndim};
        int at = each ? n : 0;
        pattern(row.name, p->name, each ? 0 : (p->layer >= 0) + (p->expert >= 0));
        while (at < n && (strcmp(rows[at].name, row.name) || rows[at].rows != row.rows || rows[at].cols != row.cols))
            at++;
        if (at == n) {
            if (n == capacity) rows = realloc(rows, (size_t)(capacity = capacity ? 2 * capacity : 64) * sizeof *rows);
            CHECK(rows != NULL);
            rows[n++] = row;
        }
        rows[at].tensors++;
        rows[at].parameters += p->count;
    }
    *out = rows;
    return n;
}

/* 15706484224 as "15,706,484,224". */
static const char *grouped(size_t v, char out[32])
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%zu", v), at = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
    return out;
}

static void print_rows(const Row *rows, int n)
{
    char count[32], shape[48];
    printf("%-56s %-16s %8s %18s\n", "tensor", "shape", "tensors", "parameters");
    for (int i = 0; i < n; i++) {
        snprintf(shape, sizeof shape, rows[i].ndim == 2 ? "%zu x %zu" : "%zu", rows[i].rows, rows[i].cols);
        printf("%-56s %-16s %8d %18s\n", rows[i].name, shape, rows[i].tensors, grouped(rows[i].parameters, count));
    }
}

static void print_meta(const CheckpointMeta *m)
{
    printf("stage %s, step %lld%s, seed %u, %lld tokens trained, %lld sampled, %.1f s\n",
           m->stage[0] ? m->stage : "(none)", (long long)m->step, m->finished ? " (finished)" : "", m->seed,
           (long long)m->tokens_trained, (long long)m->tokens_sampled, m->seconds);
    if (m->machine_kind[0]) printf("made by %s\n", m->machine_kind);
}

/* What sampling keeps of a token: expanded keys and values, or with MLA their latent. */
static void print_cache(const ModelConfig *c)
{
    char exact[32], latent[32];
    grouped(kv_cache_token_bytes(c, CACHE_EXACT, DTYPE_F32), exact);
    printf("key/value cache in f32: %s bytes a token", exact);
    if (c->attention == ATTENTION_MLA)
        printf(", latent %s", grouped(kv_cache_token_bytes(c, CACHE_LATENT, DTYPE_F32), latent));
    printf(" (bf16: half)\n");
}

static Json *cache_json(const ModelConfig *c)
{
    Json *o = json_new_object();
    json_set(o, "exact", json_new_int((int64_t)kv_cache_token_bytes(c, CACHE_EXACT, DTYPE_F32)));
    if (c->attention == ATTENTION_MLA)
        json_set(o, "latent", json_new_int((int64_t)kv_cache_token_bytes(c, CACHE_LATENT, DTYPE_F32)));
    return o;
}

static void print_model(const LoadedModel *m, const Row *rows, int n, const char *sha256)
{
    char count[32], active[32], *config;
    Json *object = hf_config_json(&m->config);
    config = json_write(object, true);
    printf("%s\n\n", config);
    print_rows(rows, n);
    printf("\n%s parameters in %d tensors, %s of them met by a token\n", grouped(m->table.count, count), m->table.n,
           grouped(m->table.active, active));
    if (m->config.head == HEAD_LM) print_cache(&m->config);
    if (m->file_types[0]) printf("in the file: %d tensors, %s\n", m->file_tensors, m->file_types);
    if (m->base)
        printf("the other %d tensors are those of %s (fingerprint %s)\n", m->table.n - m->file_tensors, m->base->path,
               m->checkpoint->meta.base->sha256);
    if (m->checkpoint) print_meta(&m->checkpoint->meta);
    if (sha256[0]) printf("weights_sha256 %s\n", sha256);
    free(config);
    json_free(object);
}

static Json *base_json(const LoadedModel *m)
{
    Json *o = json_new_object();
    json_set(o, "path", json_new_text(m->base->path));
    json_set(o, "tensors", json_new_int(m->checkpoint->meta.base->tensors));
    json_set(o, "sha256", json_new_text(m->checkpoint->meta.base->sha256));
    json_set(o, "held", json_new_int(m->file_tensors));
    return o;
}

static void print_model_json(const LoadedModel *m, const Row *rows, int n, const char *sha256)
{
    Json *o = json_new_object(), *table = json_new_array();
    json_set(o, "config", hf_config_json(&m->config));
    for (int i = 0; i < n; i++) {
        Json *row = json_new_object(), *shape = json_new_array();
        json_append(shape, json_new_int((int64_t)rows[i].rows));
        if (rows[i].ndim == 2) json_append(shape, json_new_int((int64_t)rows[i].cols));
        json_set(row, "name", json_new_text(rows[i].name));
        json_set(row, "shape", shape);
        json_set(row, "tensors", json_new_int(rows[i].tensors));
        json_set(row, "parameters", json_new_int((int64_t)rows[i].parameters));
        json_append(table, row);
    }
    json_set(o, "table", table);
    json_set(o, "parameters", json_new_int((int64_t)m->table.count));
    json_set(o, "active", json_new_int((int64_t)m->table.active));
    json_set(o, "tensors", json_new_int(m->table.n));
    if (m->config.head == HEAD_LM) json_set(o, "cache_bytes_a_token_f32", cache_json(&m->config));
    if (m->checkpoint) {
        json_set(o, "stage", json_new_text(m->checkpoint->meta.stage));
        json_set(o, "step", json_new_int(m->checkpoint->meta.step));
        json_set(o, "finished", json_new_bool(m->checkpoint->meta.finished));
        json_set(o, "seed", json_new_int(m->checkpoint->meta.seed));
    }
    if (m->base) json_set(o, "base", base_json(m));
    if (sha256[0]) json_set(o, "weights_sha256", json_new_text(sha256));
    json_line_print(o);
}

/* Parameters as they are hashed, which are looked at too: the first that is not finite is the fault, and the hash goes on. */
typedef struct Looking {
    const LoadedModel *m;
    WeightSource own;
    Status *odd;
} Looking;

static bool look_read(const void *from, const Param *p, float *out, Status *st)
{
    const Looking *k = from;
    if (!k->own.read(k->m, p, out, st)) return false;
    model_rows_finite(k->m, p, 0, p->rows, out, k->odd);
    return true;
}

static bool look_rows(const void *from, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    const Looking *k = from;
    if (!k->own.rows(k->m, p, row, n, out, st)) return false;
    model_rows_finite(k->m, p, row, n, out, k->odd);
    return true;
}

bool inspect_model(const char *name, const InspectOptions *o, Status *st)
{
    char sha256[65] = "";
    Status odd = {0};
    LoadedModel *m = model_open_as(name, 0, o->base, MODEL_IN_PLACE, st);
    if (!m) return false;
    Looking look = {m, model_source(m), &odd};
    WeightSource looked = {.read = look_read, .from = &look, .rows = look_rows};
    bool hashed = m->origin != MODEL_KNOWN && (o->sha256 || (m->checkpoint && !m->base));
    bool ok = !hashed || weights_sha256_of(&m->table, &looked, sha256, st);
    Row *rows = NULL;
    int n = ok ? collect(&m->table, o->tensors, &rows) : 0;
    if (ok && o->json) print_model_json(m, rows, n, sha256);
    else if (ok) print_model(m, rows, n, sha256);
    free(rows);
    model_close(m);
    if (ok && odd.failed) *st = odd;
    return ok && !odd.failed;
}
