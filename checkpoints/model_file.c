/* Any model by its name: checkpoint, RUN/stage, folder, GGUF file, known name. */
#include "checkpoints/model_file.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/base.h"
#include "checkpoints/float16.h"
#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/known_models.h"
#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/base/philox.h"
#include "data/stand_in.h"

static bool is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool holds(const char *folder, const char *name)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

bool model_stage_path(const char *name, char *path, size_t size)
{
    size_t n = strlen(name);
    while (n && name[n - 1] == '/') n--;
    size_t slash = n;
    while (slash && name[slash - 1] != '/') slash--;
    if (slash == 0 || slash == n) return false;
    int length = snprintf(path, size, "%.*scheckpoints/%.*s.h5", (int)slash, name, (int)(n - slash), name + slash);
    return length > 0 && (size_t)length < size && access(path, F_OK) == 0;
}

static bool allocate_weights(LoadedModel *m, Status *st)
{
    m->weights = memory_block(m->table.total * sizeof(float));
    return m->weights ? true
                      : fail(st, "%s needs %.1f GB for its weights, which this machine does not give", m->path,
                             (double)m->table.total * sizeof(float) / 1e9);
}

/* Adds a type to the list in file_types unless it is there. */
static void note_type(LoadedModel *m, const char *type)
{
    char wanted[32], have[160];
    snprintf(wanted, sizeof wanted, " %s,", type);
    snprintf(have, sizeof have, " %s,", m->file_types);
    if (strstr(have, wanted)) return;
    size_t n = strlen(m->file_types);
    snprintf(m->file_types + n, sizeof m->file_types - n, "%s%s", n ? ", " : "", type);
}

static void keep_tokenizer(LoadedModel *m, Tokenizer *t, const Status *st)
{
    m->tokenizer = t;
    if (!t) snprintf(m->tokenizer_fault, sizeof m->tokenizer_fault, "%s", st->text);
}

static bool cut_layers(LoadedModel *m, Status *st)
{
    ModelConfig *c = &m->config;
    if (m->layers == 0) return true;
    if (m->layers > c->L) return fail(st, "%s has %d layers, fewer than the %d asked for", m->path, c->L, m->layers);
    if (m->layers < c->L) c->mtp_layers = c->mtp = 0; /* they continue the last layer */
    c->L = m->layers;
    return true;
}

/* ---- The four kinds ---- */

/* The base of a checkpoint has every tensor that it does not hold, and the attached tensors. */
static bool join_base(LoadedModel *m, const char *moved, unsigned parts, Status *st)
{
    const CheckpointMeta *meta = &m->checkpoint->meta;
    m->base = base_open(meta->base, m->path, moved, MODEL_IN_PLACE | (parts & MODEL_ATTACHMENTS), st);
    if (!m->base) return false;
    for (int i = 0; i < m->table.n; i++) {
        const Param *p = &m->table.params[i];
        int k = params_find_name(&m->base->table, p->name);
        const Param *its = k < 0 ? NULL : &m->base->table.params[k];
        if (!checkpoint_holds(meta, i) && (!its || its->rows != p->rows || its->cols != p->cols))
            return fail(st, "%s: its base %s has no tensor %s of %zu x %zu", m->path, m->base->path, p->name, p->rows,
                        p->cols);
    }
    for (int i = 0; i < m->base->attached.ntensors; i++)
        attach_tensor(&m->attached, &m->base->attached.tensors[i].tensor, false);
    return true;
}

static bool open_checkpoint(LoadedModel *m, const char *base, unsigned parts, Status *st)
{
    m->origin = MODEL_CHECKPOINT;
    if (m->layers)
        return fail(st, "%s is a checkpoint: only a folder or a .gguf file can be cut to its first layers", m->path);
    unsigned read = CHECKPOINT_OPEN | (parts & MODEL_OPTIMIZER ? CHECKPOINT_OPTIMIZER : 0) |
                    (parts & MODEL_ATTACHMENTS ? CHECKPOINT_ATTACHED : 0);
    Checkpoint *c = m->checkpoint = checkpoint_load(m->path, read, st);
    if (!c) return false;
    m->config = c->config;
    m->table = c->table;
    m->attached = c->meta.attached;
    c->table = (ParamTable){0};
    c->meta.attached = (Attachments){0};
    for (int i = 0; i < m->table.n; i++) m->file_tensors += checkpoint_holds(&c->meta, i);
    if (c->has_bf16) note_type(m, "BF16");
    if (c->has_f32) note_type(m, "F32");
    Status ignored = {0};
    if (parts & MODEL_TOKENIZER && c->meta.tokenizer)
        keep_tokenizer(m, tokenizer_parse(c->meta.tokenizer, c->meta.tokenizer_length, m->path, &ignored), &ignored);
    bool weights = parts & MODEL_WEIGHTS, any = weights || parts & MODEL_IN_PLACE;
    return (!any || !c->meta.base || join_base(m, base, parts, st)) && (!weights || model_read_weights(m, st));
}

static bool open_hf(LoadedModel *m, unsigned parts, Status *st)
{
    m->origin = MODEL_HF;
    StFile *f = NULL;
    if (!hf_config_read(m->path, &m->config, st) || !cut_layers(m, st) || !(f = st_open(m->path, st))) return false;
    m->source = f;
    hf_untie(f, &m->config);
    hf_find_mtp(f, &m->config);
    m->file_tensors = (int)st_count(f);
    for (size_t i = 0; i < st_count(f); i++) note_type(m, st_dtype_name(st_at(f, i)->dtype));
    m->table = params_build(&m->config);
    if (!hf_weights_fill(f, m->path, &m->config, &m->table, NULL, st) ||
        (!m->layers && !hf_all_used(f, m->path, &m->config, &m->table, st)))
        return false;
    if (parts & MODEL_WEIGHTS &&
        (!allocate_weights(m, st) || !hf_weights_fill(f, m->path, &m->config, &m->table, m->weights, st)))
        return false;
    Status ignored = {0};
    if (parts & MODEL_TOKENIZER && holds(m->path, "tokenizer.json"))
        keep_tokenizer(m, tokenizer_load(m->path, &ignored), &ignored);
    if (parts & MODEL_ATTACHMENTS && !hf_attach(f, m->path, &m->config, &m->attached, st)) return false;
    if (m->weights && !m->attached.ntensors) {
        st_close(f);
        m->source = NULL;
    }
    return true;
}

static bool open_gguf(LoadedModel *m, unsigned parts, Status *st)
{
    m->origin = MODEL_GGUF;
    GgufFile *f = m->gguf = gguf_open(m->path, st);
    if (!f) return false;
    m->file_tensors = (int)gguf_count(f);
    for (size_t i = 0; i < gguf_count(f); i++) note_type(m, ggml_type_name(gguf_at(f, i)->type));
    bool ok = gguf_config(f, m->path, &m->config, st) && cut_layers(m, st);
    if (ok) {
        m->table = params_build(&m->config);
        ok = gguf_weights(f, m->path, &m->config, &m->table, NULL, st) &&
             (m->layers || gguf_all_used(f, m->path, &m->config, &m->table, st));
    }
    if (ok && parts & MODEL_WEIGHTS)
        ok = allocate_weights(m, st) && gguf_weights(f, m->path, &m->config, &m->table, m->weights, st);
    Status ignored = {0};
    if (ok && parts & MODEL_TOKENIZER) keep_tokenizer(m, gguf_tokenizer(f, m->path, &ignored), &ignored);
    if (m->weights) {
        gguf_close(f);
        m->gguf = NULL;
    }
    return ok;
}

/* ---- Which kind ---- */

static bool fail_run(const char *run, Status *st)
{
    char path[8192], stages[512] = "";
    snprintf(path, sizeof path, "%s/checkpoints", run);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t n = strlen(e->d_name), used = strlen(stages);
        if (n < 4 || strcmp(e->d_name + n - 3, ".h5") || strstr(e->d_name, ".partial.")) continue;
        snprintf(stages + used, sizeof stages - used, "%s%.*s", used ? ", " : "", (int)(n - 3), e->d_name);
    }
    if (dir) closedir(dir);
    return fail(st, "%s is a run: name a stage of it as %s/STAGE (%s)", run, run, *stages ? stages : "it has none yet");
}

static bool fail_unknown(const char *name, Status *st)
{
    char known[256] = "";
    for (int i = 0; known_model_name(i); i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", known_model_name(i));
    return fail(st, "%.200s is no checkpoint, RUN/stage, model folder or .gguf file, and no known name (%s)", name,
                known);
}

static bool open_folder(LoadedModel *m, unsigned parts, Status *st)
{
    if (holds(m->path, "config.json")) return open_hf(m, parts, st);
    if (holds(m->path, "checkpoints")) return fail_run(m->path, st);
    return fail(st, "%s has no config.json: it is no model folder", m->path);
}

/* By the first bytes, not by the name's ending. */
static bool open_file(LoadedModel *m, const char *base, unsigned parts, Status *st)
{
    char magic[4] = "";
    FILE *in = fopen(m->path, "rb");
    size_t n = in ? fread(magic, 1, sizeof magic, in) : 0;
    if (in) fclose(in);
    if (n == 4 && !memcmp(magic, "GGUF", 4)) return open_gguf(m, parts, st);
    size_t length = strlen(m->path);
    if (length > 12 && !strcmp(m->path + length - 12, ".safetensors"))
        return fail(st, "%s is one file of a model: give the folder that holds it and config.json", m->path);
    return open_checkpoint(m, base, parts, st) || stand_in(m->path, st);
}

static bool open_any(LoadedModel *m, const char *name, const char *base, unsigned parts, Status *st)
{
    if (strlen(name) >= sizeof m->path) return fail(st, "path %.60s... is too long", name);
    strcpy(m->path, name);
    if (is_folder(name)) return open_folder(m, parts, st);
    if (access(name, F_OK) == 0) return open_file(m, base, parts, st);
    if (model_stage_path(name, m->path, sizeof m->path)) return open_checkpoint(m, base, parts, st);
    strcpy(m->path, name);
    if (!known_model(name, &m->config)) return fail_unknown(name, st);
    m->origin = MODEL_KNOWN;
    m->table = params_build(&m->config);
    return true;
}

LoadedModel *model_open_as(const char *name, int layers, const char *base, unsigned parts, Status *st)
{
    LoadedModel *m = calloc(1, sizeof *m);
    CHECK(m);
    m->layers = layers;
    if (open_any(m, name, base, parts, st)) return m;
    model_close(m);
    return NULL;
}

LoadedModel *model_open(const char *name, unsigned parts, Status *st)
{
    return model_open_as(name, 0, NULL, parts, st);
}

void model_close(LoadedModel *m)
{
    if (!m) return;
    params_free(&m->table);
    memory_free(m->adapters);
    free(m->score);
    memory_free(m->weights);
    tokenizer_free(m->tokenizer);
    checkpoint_free(m->checkpoint);
    attachments_free(&m->attached);
    st_close(m->source);
    gguf_close(m->gguf);
    model_close(m->base);
    free(m);
}

StFile *model_take_source(LoadedModel *m)
{
    StFile **from = m->base ? &m->base->source : &m->source, *f = m->attached.ntensors ? *from : NULL;
    if (f) *from = NULL;
    return f;
}

static bool read_one(void *from, const Param *p, float *w, Status *st)
{
    return model_param_read(from, p, w, st);
}

bool model_read_weights(LoadedModel *m, Status *st)
{
    if (m->weights) return true;
    if (!allocate_weights(m, st)) return false;
    /* m->weights is where model_param_read looks first, so it is set when all of it was read. */
    float *block = m->weights;
    m->weights = NULL;
    bool ok = params_fill(&m->table, block, read_one, m, st);
    if (ok) m->weights = block;
    else memory_free(block);
    return ok;
}

/* Whether p is the scalar head that the model was given. */
static bool has_score(const LoadedModel *m, const Param *p)
{
    return m->score && p->kind == PARAM_SCORE;
}

void model_add_score(LoadedModel *m, uint32_t seed)
{
    CHECK(!m->weights && m->config.head != HEAD_SCALAR);
    m->config.head = HEAD_SCALAR;
    m->config.mtp = m->config.mtp_layers = 0;
    ParamTable table = params_build(&m->config);
    uint8_t **held = m->checkpoint ? &m->checkpoint->meta.held : NULL, *still = calloc((size_t)table.n, 1);
    CHECK(still);
    for (int i = 0; held && *held && i < table.n; i++) {
        int k = params_find_name(&m->table, table.params[i].name);
        still[i] = k >= 0 && (*held)[k];
    }
    if (held && *held) {
        free(*held);
        *held = still;
    } else {
        free(still);
    }
    params_free(&m->table);
    m->table = table;
    const Param *p = &table.params[params_find(&table, PARAM_SCORE, -1, -1)];
    m->score = calloc(p->count, sizeof *m->score);
    CHECK(m->score);
    rng_fill_normal(m->score, p->count, m->config.init_std, seed, p->name);
    attachments_free(&m->attached); /* of the model that it was */
}

/* The base's parameter that p is; NULL: m's file has its own, or it is an adapter, which is never a base's. */
static const Param *of_base(const LoadedModel *m, const Param *p)
{
    int i = m->base && p->base < 0 ? params_find_name(&m->table, p->name) : -1;
    if (i < 0 || checkpoint_holds(&m->checkpoint->meta, i) || has_score(m, p)) return NULL;
    return &m->base->table.params[params_find_name(&m->base->table, p->name)];
}

/* Of those that it was given. */
static const float *adapter_of(const LoadedModel *m, const Param *p)
{
    size_t first;
    params_adapters(&m->table, &first);
    return m->adapters + (p->offset - first);
}

bool model_param_read(const LoadedModel *m, const Param *p, float *out, Status *st)
{
    const Param *its = m->weights ? NULL : of_base(m, p);
    if (m->weights) memcpy(out, m->weights + p->offset, p->count * sizeof *out);
    else if (m->adapters && p->base >= 0) memcpy(out, adapter_of(m, p), p->count * sizeof *out);
    else if (has_score(m, p)) memcpy(out, m->score, p->count * sizeof *out);
    else if (its) return model_param_read(m->base, its, out, st);
    else if (m->checkpoint) return checkpoint_rows_read(m->checkpoint, p, 0, p->rows, out, st);
    else if (m->gguf) return gguf_param_read(m->gguf, m->path, &m->config, p, out, st);
    else return hf_param_read(m->source, m->path, &m->config, p, out, st);
    return true;
}

bool model_param_place(const LoadedModel *m, const Param *p, ParamPlace *out)
{
    const Param *its = m->weights ? NULL : of_base(m, p);
    if (m->weights || (m->adapters && p->base >= 0) || has_score(m, p)) return false;
    if (its) return model_param_place(m->base, its, out);
    if (m->checkpoint) return m->checkpoint->open && checkpoint_place(m->checkpoint, p, out);
    return m->source && hf_param_place(m->source, &m->config, p, out);
}

const void *model_param_bf16(const LoadedModel *m, const Param *p)
{
    const Param *its = m->weights ? NULL : of_base(m, p);
    if (its) return model_param_bf16(m->base, its);
    return m->source ? hf_param_bf16(m->source, &m->config, p) : NULL;
}

static bool model_rows(const LoadedModel *m, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    const Param *its = m->weights ? NULL : of_base(m, p);
    size_t from = row * p->cols, bytes = n * p->cols * sizeof *out;
    if (m->weights) memcpy(out, m->weights + p->offset + from, bytes);
    else if (m->adapters && p->base >= 0) memcpy(out, adapter_of(m, p) + from, bytes);
    else if (has_score(m, p)) memcpy(out, m->score + from, bytes);
    else if (its) return model_rows(m->base, its, row, n, out, st);
    else if (m->checkpoint) return checkpoint_rows_read(m->checkpoint, p, row, n, out, st);
    else if (m->gguf) return gguf_rows_read(m->gguf, &m->config, p, row, n, out, st);
    else return hf_rows_read(m->source, &m->config, p, row, n, out, st);
    return true;
}

static bool source_param(const void *m, const Param *p, float *out, Status *st)
{
    return model_param_read(m, p, out, st);
}

static const void *source_bf16(const void *m, const Param *p)
{
    return model_param_bf16(m, p);
}

static bool source_part(const void *m, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    return model_rows(m, p, row, n, out, st);
}

WeightSource model_source(const LoadedModel *m)
{
    return (WeightSource){source_param, source_bf16, m, source_part};
}

bool model_not_finite(const LoadedModel *m, const Param *p, size_t at, float value, Status *st)
{
    return fail(st,
                "%s: tensor %s holds %f at [%zu, %zu], no finite number: the weights are damaged, take an earlier copy",
                m->path, p->name, (double)value, at / p->cols, at % p->cols);
}

bool model_rows_finite(const LoadedModel *m, const Param *p, size_t row, size_t n, const float *w, Status *st)
{
    if (all_finite(w, n * p->cols, false)) return true;
    size_t at = 0;
    while (isfinite(w[at])) at++;
    return model_not_finite(m, p, row * p->cols + at, w[at], st);
}

bool model_finite(const LoadedModel *m, Status *st)
{
    for (int i = 0; m->weights && i < m->table.n; i++) {
        const Param *p = &m->table.params[i];
        if (!model_rows_finite(m, p, 0, p->rows, m->weights + p->offset, st)) return false;
    }
    return true;
}

bool model_has_weights(const LoadedModel *m, const char *name, Status *st)
{
    return m->origin != MODEL_KNOWN ||
           fail(st,
                "%s is a model's name, without weights; give a checkpoint, RUN/stage, a model folder or a .gguf file",
                name);
}
