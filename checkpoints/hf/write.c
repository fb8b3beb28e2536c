/* Writes a model folder that transformers loads. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/durable.h"
#include "checkpoints/float16.h"
#include "checkpoints/hf/hf.h"
#include "core/base/check.h"

enum { SHARD_BYTES_DEFAULT = 5 }; /* GB */

/* A tensor of the export: one of the table's, or an attached one. */
typedef struct Item {
    const char *name;
    StDtype dtype;
    int ndim;
    uint64_t shape[8], bytes;
    const Param *param; /* NULL: raw holds the bytes */
    const void *raw;
    int shard;
} Item;

typedef struct Export {
    const char *folder;
    const WeightSource *weights;
    Item *items;
    int n, shards;
    uint64_t total;
    char (*names)[96]; /* of what is written twice */
} Export;

static Item item_of_param(const Param *p, StDtype dtype)
{
    StDtype kept = p->kind == PARAM_ROUTER_BIAS ? ST_F32 : dtype;
    return (Item){.name = p->name,
                  .dtype = kept,
                  .ndim = p->ndim,
                  .shape = {p->rows, p->cols},
                  .bytes = p->count * st_dtype_size(kept),
                  .param = p};
}

static Item item_of_tensor(const StTensor *t)
{
    Item item = {.name = t->name, .dtype = t->dtype, .ndim = t->ndim, .bytes = t->bytes, .raw = t->data};
    memcpy(item.shape, t->shape, sizeof item.shape);
    return item;
}

typedef struct Writing {
    StWriter *w;
    const Item *item;
} Writing;

static bool write_rows(void *to, const float *w, size_t row, size_t n, Status *st)
{
    const Writing *k = to;
    const Item *item = k->item;
    size_t cols = item->param->cols;
    const float *over = item->dtype == ST_F16 ? beyond_f16(w, n * cols) : NULL;
    if (over) return fail(st, "%s holds %g, too large for f16: export as bf16 or f32", item->name, (double)*over);
    return st_writer_part(k->w, item->name, row * cols, n * cols, w, st);
}

/* Released files have embedding and head again in every module of multi-token prediction, and readers look for them. */
static void add_mtp_copies(Export *e, const ModelConfig *c, const ParamTable *t, StDtype dtype)
{
    for (int i = 0; i < c->mtp * HF_MTP_COPIES; i++) {
        int copy = i % HF_MTP_COPIES;
        const Param *p = &t->params[params_find(t, copy && !c->tied ? PARAM_HEAD : PARAM_EMBED, -1, -1)];
        hf_mtp_copy_name(c, i / HF_MTP_COPIES, copy, e->names[i]);
        e->items[e->n] = item_of_param(p, dtype);
        e->items[e->n++].name = e->names[i];
    }
}

/* Items in table order, cut into shards that each hold at most `limit` bytes (or one tensor). */
static void plan(Export *e, const ModelConfig *c, const ParamTable *t, StDtype dtype, uint64_t limit,
                 const Attachments *a)
{
    int attached = a ? a->ntensors : 0;
    size_t copies = (size_t)c->mtp * HF_MTP_COPIES;
    e->items = malloc(((size_t)(t->n + attached) + copies) * sizeof *e->items);
    e->names = malloc((copies + 1) * sizeof *e->names);
    CHECK(e->items && e->names);
    for (int i = 0; i < t->n; i++) e->items[e->n++] = item_of_param(&t->params[i], dtype);
    add_mtp_copies(e, c, t, dtype);
    for (int i = 0; i < attached; i++) e->items[e->n++] = item_of_tensor(&a->tensors[i].tensor);
    uint64_t used = 0;
    for (int i = 0; i < e->n; i++) {
        if (used && used + e->items[i].bytes > limit) {
            e->shards++;
            used = 0;
        }
        e->items[i].shard = e->shards;
        used += e->items[i].bytes;
        e->total += e->items[i].bytes;
    }
    e->shards++;
}

static void shard_name(const Export *e, int shard, char *name, size_t size)
{
    if (e->shards == 1) snprintf(name, size, "model.safetensors");
    else snprintf(name, size, "model-%05d-of-%05d.safetensors", shard + 1, e->shards);
}

static bool write_shard(const Export *e, int shard, Status *st)
{
    char name[64], path[4200];
    shard_name(e, shard, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", e->folder, name);
    StWriter *w = st_writer_open(path, st);
    if (!w) return false;
    st_writer_metadata(w, "format", "pt");
    for (int i = 0; i < e->n; i++)
        if (e->items[i].shard == shard)
            st_writer_add(w, e->items[i].name, e->items[i].dtype, e->items[i].ndim, e->items[i].shape);
    bool ok = true;
    for (int i = 0; ok && i < e->n; i++) {
        const Item *item = &e->items[i];
        if (item->shard != shard) continue;
        ok = item->param ? source_rows(e->weights, item->param, write_rows, &(Writing){w, item}, st)
                         : st_writer_raw(w, item->name, item->raw, st);
    }
    if (ok) return st_writer_close(w, st);
    st_writer_abandon(w);
    return false;
}

static bool write_index(const Export *e, Status *st)
{
    Json *index = json_new_object(), *metadata = json_new_object(), *map = json_new_object();
    json_set(metadata, "total_size", json_new_int((int64_t)e->total));
    json_set(index, "metadata", metadata);
    for (int i = 0; i < e->n; i++) {
        char name[64];
        shard_name(e, e->items[i].shard, name, sizeof name);
        json_set(map, e->items[i].name, json_new_text(name));
    }
    json_set(index, "weight_map", map);
    char path[4200];
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", e->folder);
    bool ok = json_write_file(index, path, st);
    json_free(index);
    return ok;
}

bool hf_make_folder(const char *folder, Status *st)
{
    if (strlen(folder) > 4000) return fail(st, "path %.60s... is too long: choose a shorter one", folder);
    if (mkdir(folder, 0777) && errno != EEXIST) return durable_fail(folder, errno, st);
    DIR *dir = opendir(folder);
    if (!dir) return durable_fail(folder, errno, st);
    bool empty = true;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) empty = false;
    closedir(dir);
    return empty ? true : fail(st, "%s holds files already: choose a new folder, or remove it first", folder);
}

static bool write_bytes(const char *folder, const char *name, const char *bytes, size_t n, Status *st)
{
    char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    Durable file;
    if (!durable_begin(&file, path, st)) return false;
    FILE *out = fopen(file.temp, "wb");
    bool ok = out && fwrite(bytes, 1, n, out) == n;
    int error = errno;
    if (out && fclose(out) && ok) ok = false, error = errno;
    if (ok) return durable_commit(&file, st);
    durable_abandon(&file);
    return durable_fail(path, error, st);
}

static bool write_tokenizer(const char *folder, const Tokenizer *t, Status *st)
{
    size_t length;
    const char *text = tokenizer_json_text(t, &length), *config = tokenizer_config_text(t);
    return (!text || write_bytes(folder, "tokenizer.json", text, length, st)) &&
           (!config || write_bytes(folder, "tokenizer_config.json", config, strlen(config), st));
}

static bool write_json(const char *folder, const char *name, Json *object, Status *st)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    bool ok = json_write_file(object, path, st);
    json_free(object);
    return ok;
}

static bool write_files(const char *folder, const ModelConfig *c, const Tokenizer *tokenizer, const Attachments *a,
                        Status *st)
{
    if (tokenizer && !write_tokenizer(folder, tokenizer, st)) return false;
    for (int i = 0; a && i < a->nfiles; i++)
        if (!write_bytes(folder, a->files[i].name, a->files[i].bytes, a->files[i].length, st)) return false;
    if (a && attached_file(a, "generation_config.json")) return true;
    Json *generation = json_new_object();
    json_set(generation, "_from_model_config", json_new_bool(true));
    if (c->bos >= 0) json_set(generation, "bos_token_id", json_new_int(c->bos));
    if (c->eos >= 0) json_set(generation, "eos_token_id", json_new_int(c->eos));
    return write_json(folder, "generation_config.json", generation, st);
}

bool hf_write(const char *folder, const ModelConfig *c, const ParamTable *t, WeightSource weights, StDtype dtype,
              uint64_t shard_bytes, const Tokenizer *tokenizer, const Attachments *attached, Status *st)
{
    CHECK(dtype == ST_F32 || dtype == ST_F16 || dtype == ST_BF16);
    /* The public code of this model_type has no head_dim of its own. */
    if (c->arch == ARCH_DEEPSEEK && c->H * c->Dr != c->C)
        return fail(st,
                    "a deepseek model as others load it has heads that fill the width, but %d heads of %d are not "
                    "hidden_size %d: train with head_dim %d, or keep the checkpoint",
                    c->H, c->Dr, c->C, c->C / c->H);
    if (!hf_make_folder(folder, st)) return false;
    Export e = {.folder = folder, .weights = &weights};
    plan(&e, c, t, dtype, shard_bytes ? shard_bytes : SHARD_BYTES_DEFAULT * 1000000000ull, attached);
    bool ok = durable_room(folder, e.total, st) && write_files(folder, c, tokenizer, attached, st);
    for (int s = 0; ok && s < e.shards; s++) ok = write_shard(&e, s, st);
    if (ok && e.shards > 1) ok = write_index(&e, st);
    free(e.items);
    free(e.names);
    if (!ok) return false;
    /* config.json comes last: a folder without it is not taken for a model. */
    Json *config = hf_config_json(c);
    const char *torch_dtype = dtype == ST_F32 ? "float32" : dtype == ST_F16 ? "float16" : "bfloat16";
    json_set(config, "torch_dtype", json_new_text(torch_dtype));
    return write_json(folder, "config.json", config, st);
}
