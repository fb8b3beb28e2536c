/* A checkpoint written and read: layout, tensors, state, attachments. */
#include "checkpoints/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "checkpoints/base.h"
#include "checkpoints/h5.h"
#include "checkpoints/float16.h"
#include "checkpoints/hash.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/lora.h"
#include "checkpoints/seal.h"
#include "core/base/check.h"
#include "core/base/memory.h"
#include "core/params_select.h"
#include "data/json.h"

/* ---- Saving ---- */

/* What must agree for the whole-block datasets to mean the same. */
static void layout_sha256(const ParamTable *t, char hex[65])
{
    Sha256 *h = sha256_new();
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        uint64_t place[2] = {p->offset, p->count};
        sha256_add(h, p->name, strlen(p->name) + 1);
        sha256_add(h, place, sizeof place);
    }
    sha256_finish(h, hex);
}

static void write_text(H5Writer *w, const char *name, const char *text, size_t length)
{
    if (text) h5_write_bytes(w, name, text, length);
}

static void write_i64(H5Writer *w, const char *name, int64_t value)
{
    h5_attr(w, "meta", name, H5_I64, &value);
}

static void write_meta(H5Writer *w, const CheckpointMeta *m, const char *config)
{
    write_text(w, "meta/config_json", config, strlen(config));
    h5_attr_text(w, "meta", "stage", m->stage);
    h5_attr_text(w, "meta", "machine_kind", m->machine_kind);
    h5_attr_text(w, "meta", "precision", m->precision);
    h5_attr(w, "meta", "seconds", H5_F64, &m->seconds);
    write_i64(w, "stage_index", m->stage_index);
    write_i64(w, "step", m->step);
    write_i64(w, "finished", m->finished);
    write_i64(w, "tokens_trained", m->tokens_trained);
    write_i64(w, "tokens_sampled", m->tokens_sampled);
    write_i64(w, "optimizer_step", m->optimizer_step);
    write_i64(w, "cursor", m->cursor);
    write_i64(w, "seed", m->seed);
    write_text(w, "meta/recipe", m->recipe, m->recipe ? strlen(m->recipe) : 0);
    write_text(w, "meta/tokenizer", m->tokenizer, m->tokenizer_length);
    write_text(w, "meta/extra", m->extra, m->extra ? strlen(m->extra) : 0);
    if (!m->base) return;
    char *base = base_text(m->base);
    write_text(w, "meta/base", base, strlen(base));
    free(base);
}

/* A dataset whose bytes seal_write writes. */
static void reserve(H5Writer *w, Pieces *pieces, const char *name, H5Type type, int ndim, const uint64_t *shape,
                    Piece piece)
{
    piece.at = h5_reserve(w, name, type, ndim, shape, &piece.bytes);
    if (piece.bytes) pieces_add(pieces, piece);
}

/* unit: "unit_" of a stage's own tensors, else "". */
static void write_tensors(H5Writer *w, Pieces *pieces, const Attachments *a, const char *unit)
{
    char name[512];
    for (int i = 0; i < a->ntensors; i++) {
        const StTensor *t = &a->tensors[i].tensor;
        uint64_t head[10] = {t->dtype, (uint64_t)t->ndim};
        memcpy(head + 2, t->shape, sizeof t->shape);
        snprintf(name, sizeof name, "%stensors/%s", unit, t->name);
        reserve(w, pieces, name, H5_U8, 1, (uint64_t[]){t->bytes}, (Piece){.data = t->data});
        snprintf(name, sizeof name, "%stensor_shapes/%s", unit, t->name);
        h5_write(w, name, H5_U64, 1, (uint64_t[]){10}, head);
    }
}

/* tensors: those too, which a base has itself. */
static void write_attachments(H5Writer *w, Pieces *pieces, const Attachments *a, bool tensors)
{
    char name[512];
    for (int i = 0; i < a->nfiles; i++) {
        snprintf(name, sizeof name, "files/%s", a->files[i].name);
        h5_write_bytes(w, name, a->files[i].bytes, a->files[i].length);
    }
    if (tensors) write_tensors(w, pieces, a, "");
}

static void write_block(H5Writer *w, Pieces *pieces, const char *name, const float *block, size_t n)
{
    if (block) reserve(w, pieces, name, H5_F32, 1, (uint64_t[]){n}, (Piece){.data = block});
}

static void write_moments(H5Writer *w, Pieces *pieces, const char *name, const void *block, const ParamTable *t)
{
    if (t->moments == MOMENTS_F32) write_block(w, pieces, name, block, t->state_total);
    else if (block) reserve(w, pieces, name, H5_U8, 1, (uint64_t[]){t->moment_total}, (Piece){.data = block});
}

/* Which parameters are trained, by the table's order; nothing where all are. */
static void write_chosen(H5Writer *w, const ParamTable *t)
{
    if (params_all_chosen(t)) return;
    uint8_t *chosen = malloc((size_t)t->n);
    CHECK(chosen);
    for (int i = 0; i < t->n; i++) chosen[i] = t->params[i].chosen;
    h5_write(w, "optim/chosen", H5_U8, 1, (uint64_t[]){(uint64_t)t->n}, chosen);
    free(chosen);
}

/* What has a Param.state, at its place in a block; the padding is the file's zeros. */
static void write_reference(H5Writer *w, Pieces *pieces, const ParamTable *t, const WeightSource *source)
{
    if (!source) return;
    size_t bytes;
    uint64_t at = h5_reserve(w, "reference", H5_F32, 1, (uint64_t[]){t->state_total}, &bytes);
    for (int i = 0; i < t->n && bytes; i++) {
        const Param *p = &t->params[i];
        if (p->state == SIZE_MAX) continue;
        uint64_t from = at + p->state * sizeof(float);
        pieces_add(pieces, (Piece){.at = from, .bytes = p->count * sizeof(float), .param = p, .source = source});
    }
}

/* The parameters, as bf16 words where the source has them, else to be converted. */
static void write_model(H5Writer *w, Pieces *pieces, const ParamTable *t, const WeightSource *source,
                        const CheckpointMeta *m)
{
    char name[128];
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (!checkpoint_holds(m, i)) continue;
        const void *words = source->bf16 ? source->bf16(source->from, p) : NULL;
        Piece piece = {.data = words, .mapped = words, .param = p, .source = source};
        snprintf(name, sizeof name, "model/%s", p->name);
        reserve(w, pieces, name, words ? H5_BF16 : H5_F32, p->ndim, (uint64_t[]){p->rows, p->cols}, piece);
    }
}

static char *config_text(const ModelConfig *config)
{
    Json *object = hf_config_json(config);
    lora_config_write(object, &config->lora);
    char *text = json_write(object, false);
    CHECK(text);
    json_free(object);
    return text;
}

typedef struct Content {
    const ModelConfig *config;
    const ParamTable *table;
    const WeightSource *weights;
    CheckpointBlocks blocks;
    const CheckpointMeta *meta;
} Content;

static void write_content(H5Writer *w, Pieces *pieces, const Content *c)
{
    const ParamTable *table = c->table;
    char layout[65], *text = config_text(c->config);
    layout_sha256(table, layout);
    h5_attr_text(w, "/", "format", format_name);
    h5_attr(w, "/", "format_version", H5_I32, &(int32_t){FORMAT_VERSION});
    h5_attr_text(w, "/", "endianness", "little");
    h5_attr_text(w, "/", "layout_sha256", layout);
    write_meta(w, c->meta, text);
    free(text);
    write_model(w, pieces, table, c->weights, c->meta);
    if (c->blocks.m) write_chosen(w, table);
    if (c->blocks.m && table->moments != MOMENTS_F32)
        h5_attr_text(w, "meta", "moments", moment_form_name(table->moments));
    write_moments(w, pieces, "optim/m", c->blocks.m, table);
    write_moments(w, pieces, "optim/v", c->blocks.v, table);
    write_reference(w, pieces, table, c->blocks.reference);
    write_attachments(w, pieces, &c->meta->attached, !c->meta->base);
    write_tensors(w, pieces, &c->meta->state, "unit_");
    h5_attr(w, "/", "complete", H5_U8, &(uint8_t){1});
}

/* Parameters of sources, one after the other by way of one buffer. */
static const void *read_piece(void *buffer, const Piece *p, Status *st)
{
    return p->source->read(p->source->from, p->param, buffer, st) ? buffer : NULL;
}

/* A buffer for the largest of the pieces that are read. */
static bool buffer_open(Pieces *pieces, Status *st)
{
    size_t largest = 0;
    for (int i = 0; i < pieces->n; i++)
        if (!pieces->list[i].data && pieces->list[i].bytes > largest) largest = pieces->list[i].bytes;
    pieces->convert = read_piece;
    pieces->context = largest ? memory_block(largest) : NULL;
    return !largest || pieces->context || fail(st, "no memory for a tensor of %.1f GB", (double)largest / 1e9);
}

static bool save(const char *path, const Content *c, Status *st)
{
    Durable file;
    if (!durable_begin(&file, path, st)) return false;
    H5Writer *w = h5_create(file.temp, path, SEAL, st);
    if (!w) {
        durable_abandon(&file);
        return false;
    }
    Pieces pieces = {0};
    write_content(w, &pieces, c);
    bool ok = h5_close(w, st) && buffer_open(&pieces, st) && seal_write(file.temp, path, &pieces, st);
    if (ok) ok = durable_commit(&file, st);
    else durable_abandon(&file);
    memory_free(pieces.context);
    pieces_free(&pieces);
    return ok;
}

bool checkpoint_save(const char *path, const ModelConfig *config, const ParamTable *table, const float *weights,
                     const void *m, const void *v, const float *reference, const CheckpointMeta *meta, Status *st)
{
    WeightSource own = block_source(weights), other = states_source(reference);
    return save(path, &(Content){config, table, &own, {m, v, reference ? &other : NULL}, meta}, st);
}

bool checkpoint_save_from(const char *path, const ModelConfig *config, const ParamTable *table,
                          const WeightSource *source, const CheckpointBlocks *blocks, const CheckpointMeta *meta,
                          Status *st)
{
    return save(path, &(Content){config, table, source, *blocks, meta}, st);
}

bool checkpoint_import(const char *path, const ModelConfig *config, const ParamTable *table, const WeightSource *source,
                       const CheckpointMeta *meta, Status *st)
{
    return save(path, &(Content){.config = config, .table = table, .weights = source, .meta = meta}, st);
}

/* ---- Loading ---- */

static float *new_block(size_t n, const char *path, Status *st)
{
    float *block = memory_block(n * sizeof(float));
    if (!block)
        fail(st, "%s needs %.1f GB for its weights, which this machine does not give", path,
             (double)n * sizeof(float) / 1e9);
    return block;
}

static bool read_config(H5Reader *r, const char *path, ModelConfig *out, Status *st)
{
    size_t length;
    char *text = h5_read_bytes(r, "meta/config_json", &length);
    if (!text) return fail(st, "%s holds no model config: it was written by another version of this program", path);
    Json *object = json_parse(text, length, path, st);
    bool ok = object && hf_config_parse(object, out, st) && lora_config_read(object, out, st);
    json_free(object);
    free(text);
    return ok;
}

static bool read_head(H5Reader *r, const char *path, Checkpoint *c, Status *st)
{
    char format[64] = "", layout[65] = "", want[65];
    int32_t version = 0;
    uint8_t complete = 0;
    h5_read_attr_text(r, "/", "format", format, sizeof format);
    h5_read_attr(r, "/", "format_version", H5_I32, &version);
    h5_read_attr(r, "/", "complete", H5_U8, &complete);
    h5_read_attr_text(r, "/", "layout_sha256", layout, sizeof layout);
    if (strcmp(format, format_name) || version != FORMAT_VERSION)
        return fail(st, "%s has format %.40s %d, but this program reads %s %d", path, format, (int)version, format_name,
                    FORMAT_VERSION);
    if (complete != 1) return fail(st, "%s was never finished: take an earlier checkpoint", path);
    if (!read_config(r, path, &c->config, st)) return false;
    c->table = params_build(&c->config);
    layout_sha256(&c->table, want);
    if (strcmp(layout, want))
        return fail(
            st, "%s lays out its parameters in another order: it was written by another version of this program", path);
    return true;
}

static int64_t read_i64(H5Reader *r, const char *name)
{
    int64_t value = 0;
    h5_read_attr(r, "meta", name, H5_I64, &value);
    return value;
}

/* Bytes that may be absent, but not damaged. */
static bool read_text(H5Reader *r, const char *path, const char *name, char **out, size_t *length, Status *st)
{
    *out = h5_read_bytes(r, name, length);
    return *out || !h5_has(r, name) || fail(st, "%s: its %s is damaged: take an earlier copy", path, name);
}

/* The base, and which tensors the file holds itself. */
static bool read_base(H5Reader *r, const char *path, const ParamTable *t, CheckpointMeta *m, Status *st)
{
    char *text, name[128];
    size_t length = 0;
    if (!read_text(r, path, "meta/base", &text, &length, st)) return false;
    if (!text) return true;
    m->base = calloc(1, sizeof *m->base);
    m->held = calloc((size_t)t->n, 1);
    CHECK(m->base && m->held);
    for (int i = 0; i < t->n; i++) {
        snprintf(name, sizeof name, "model/%s", t->params[i].name);
        m->held[i] = h5_has(r, name);
    }
    bool ok = base_parse(text, length, m->base) ||
              fail(st, "%s: what it says of its base is damaged: take an earlier copy", path);
    free(text);
    return ok;
}

static bool read_meta(H5Reader *r, const char *path, const ParamTable *t, CheckpointMeta *m, Status *st)
{
    size_t length;
    h5_read_attr_text(r, "meta", "stage", m->stage, sizeof m->stage);
    h5_read_attr_text(r, "meta", "machine_kind", m->machine_kind, sizeof m->machine_kind);
    h5_read_attr_text(r, "meta", "precision", m->precision, sizeof m->precision);
    h5_read_attr(r, "meta", "seconds", H5_F64, &m->seconds);
    m->stage_index = (int)read_i64(r, "stage_index");
    m->step = read_i64(r, "step");
    m->finished = read_i64(r, "finished") != 0;
    m->tokens_trained = read_i64(r, "tokens_trained");
    m->tokens_sampled = read_i64(r, "tokens_sampled");
    m->optimizer_step = read_i64(r, "optimizer_step");
    m->cursor = read_i64(r, "cursor");
    m->seed = (uint32_t)read_i64(r, "seed");
    return read_text(r, path, "meta/recipe", &m->recipe, &length, st) &&
           read_text(r, path, "meta/tokenizer", &m->tokenizer, &m->tokenizer_length, st) &&
           read_text(r, path, "meta/extra", &m->extra, &length, st) && read_base(r, path, t, m, st);
}

typedef struct Attaching {
    H5Reader *r;
    Attachments *to;
    const char *path;
    const char *unit; /* "unit_" of a stage's own tensors, else "" */
    Status *st;
} Attaching;

/* Attached files are written into folders under their own names. */
static bool is_file_name(const char *name)
{
    return name[0] != '.' && !strchr(name, '/') && strlen(name) < 200;
}

static bool read_file(const char *name, void *context)
{
    Attaching *a = context;
    char full[512];
    size_t length;
    snprintf(full, sizeof full, "files/%s", name);
    char *bytes = is_file_name(name) ? h5_read_bytes(a->r, full, &length) : NULL;
    if (bytes) attach_file(a->to, name, bytes, length);
    free(bytes);
    return bytes || fail(a->st, "%s: its attached file %.100s is damaged: take an earlier copy", a->path, name);
}

/* [dtype, dimensions, shape[8]] as a tensor's description; false: no tensor can be so. */
static bool describe(const uint64_t head[10], StTensor *t)
{
    if (head[0] >= ST_OTHER || head[1] > 8) return false;
    t->dtype = (StDtype)head[0];
    t->ndim = (int)head[1];
    t->count = 1;
    memcpy(t->shape, head + 2, sizeof t->shape);
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(t->count, t->shape[i], &t->count)) return false;
    return !__builtin_mul_overflow(t->count, (uint64_t)st_dtype_size(t->dtype), &t->bytes);
}

static bool read_tensor(const char *name, void *context)
{
    Attaching *a = context;
    char full[512];
    uint64_t head[10];
    size_t length = 0;
    StTensor t = {.name = name};
    Status unread = {0};
    snprintf(full, sizeof full, "%stensor_shapes/%.400s", a->unit, name);
    bool ok = h5_read(a->r, full, H5_U64, 10, head, &unread) && describe(head, &t);
    snprintf(full, sizeof full, "%stensors/%.400s", a->unit, name);
    t.data = ok ? h5_read_bytes(a->r, full, &length) : NULL;
    if (t.data && length == t.bytes) {
        attach_tensor(a->to, &t, true);
        return true;
    }
    free((void *)t.data);
    return fail(a->st,
                "%s: its attached tensor %.100s is not what it announces: the file is damaged, take an earlier copy",
                a->path, name);
}

static bool is_bf16(H5Reader *r, const Param *p)
{
    char name[128];
    int ndim;
    uint64_t shape[8];
    snprintf(name, sizeof name, "model/%s", p->name);
    return h5_shape(r, name, H5_BF16, &ndim, shape);
}

/* Rows of a parameter in the type the file has it in. bf16 words go to the end of the place and are widened from its front. */
static bool read_rows(H5Reader *r, const Param *p, size_t row, size_t n, float *w, Status *st)
{
    char name[128];
    uint16_t part[1024];
    H5Rows rows = {p->count, row * p->cols, n * p->cols};
    snprintf(name, sizeof name, "model/%s", p->name);
    if (!is_bf16(r, p)) return h5_read_rows(r, name, H5_F32, rows, w, st);
    const char *words = (const char *)w + 2 * rows.n;
    if (!h5_read_rows(r, name, H5_BF16, rows, (void *)words, st)) return false;
    for (size_t from = 0; from < rows.n; from += 1024) {
        size_t some = rows.n - from < 1024 ? rows.n - from : 1024;
        memcpy(part, words + 2 * from, 2 * some);
        for (size_t i = 0; i < some; i++) w[from + i] = f32_of_bf16(part[i]);
    }
    return true;
}

static bool read_param(void *from, const Param *p, float *w, Status *st)
{
    return read_rows(from, p, 0, p->rows, w, st);
}

/* What the file does not hold becomes zeros. */
static bool read_held(void *from, const Param *p, float *w, Status *st)
{
    char name[128];
    snprintf(name, sizeof name, "model/%s", p->name);
    if (h5_has(from, name)) return read_param(from, p, w, st);
    memset(w, 0, p->count * sizeof *w);
    return true;
}

static bool read_weights(H5Reader *r, const char *path, Checkpoint *c, Status *st)
{
    return (c->weights = new_block(c->table.total, path, st)) &&
           params_fill(&c->table, c->weights, c->meta.base ? read_held : read_param, r, st);
}

static bool read_block(H5Reader *r, const char *path, const char *name, size_t n, float **out, Status *st)
{
    if (!h5_has(r, name)) return true;
    return (*out = new_block(n, path, st)) && h5_read(r, name, H5_F32, n, *out, st);
}

static bool read_chosen(H5Reader *r, ParamTable *t, Status *st)
{
    if (!h5_has(r, "optim/chosen")) return true;
    uint8_t *chosen = malloc((size_t)t->n);
    CHECK(chosen);
    bool ok = h5_read(r, "optim/chosen", H5_U8, (uint64_t)t->n, chosen, st);
    if (ok) params_choose(t, chosen);
    free(chosen);
    return ok;
}

/* What has a Param.state; older files hold the whole model also where only a part of it was trained. */
static bool read_reference(H5Reader *r, const char *path, Checkpoint *c, Status *st)
{
    const ParamTable *t = &c->table;
    int ndim;
    uint64_t shape[8];
    if (!h5_shape(r, "reference", H5_F32, &ndim, shape) || shape[0] != t->total)
        return read_block(r, path, "reference", t->state_total, &c->reference, st);
    if (!read_block(r, path, "reference", t->total, &c->reference, st)) return false;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (p->state != SIZE_MAX) /* which is never above the offset */
            memmove(c->reference + p->state, c->reference + p->offset, p->count * sizeof(float));
    }
    return true;
}

/* How the moments are stored; a file that says nothing has f32. */
static bool read_form(H5Reader *r, const char *path, ParamTable *t, Status *st)
{
    char name[16] = "";
    int k = MOMENTS_F32;
    h5_read_attr_text(r, "meta", "moments", name, sizeof name);
    while (name[0] && moment_form_name(k) && strcmp(name, moment_form_name(k))) k++;
    if (!moment_form_name(k)) return fail(st, "%s: moments '%s' are unknown to this program", path, name);
    params_moments(t, (MomentForm)k);
    return true;
}

static bool read_moments(H5Reader *r, const char *path, const char *name, const ParamTable *t, void **out, Status *st)
{
    H5Type type = t->moments == MOMENTS_F32 ? H5_F32 : H5_U8;
    size_t n = t->moments == MOMENTS_F32 ? t->state_total : t->moment_total;
    if (!h5_has(r, name)) return true;
    return (*out = new_block(t->moment_total / sizeof(float), path, st)) && h5_read(r, name, type, n, *out, st);
}

static bool read_optimizer(H5Reader *r, const char *path, Checkpoint *c, Status *st)
{
    return read_chosen(r, &c->table, st) && read_form(r, path, &c->table, st) &&
           read_moments(r, path, "optim/m", &c->table, &c->m, st) &&
           read_moments(r, path, "optim/v", &c->table, &c->v, st) && read_reference(r, path, c, st);
}

static bool read_attachments(H5Reader *r, const char *path, Attachments *out, Status *st)
{
    Attaching a = {r, out, path, "", st};
    h5_each(r, "files", read_file, &a);
    if (!st->failed) h5_each(r, "tensor_shapes", read_tensor, &a);
    return !st->failed;
}

static bool read_unit(H5Reader *r, const char *path, Attachments *out, Status *st)
{
    h5_each(r, "unit_tensor_shapes", read_tensor, &(Attaching){r, out, path, "unit_", st});
    return !st->failed;
}

static bool read_all(H5Reader *r, const char *path, unsigned parts, Checkpoint *c, Status *st)
{
    if (!read_head(r, path, c, st)) return false;
    if (!read_meta(r, path, &c->table, &c->meta, st)) return false;
    for (int i = 0; i < c->table.n; i++)
        if (checkpoint_holds(&c->meta, i)) *(is_bf16(r, &c->table.params[i]) ? &c->has_bf16 : &c->has_f32) = true;
    if (parts & CHECKPOINT_WEIGHTS && !read_weights(r, path, c, st)) return false;
    if (parts & CHECKPOINT_ATTACHED && !read_attachments(r, path, &c->meta.attached, st)) return false;
    return !(parts & CHECKPOINT_OPTIMIZER) ||
           (read_optimizer(r, path, c, st) && read_unit(r, path, &c->meta.state, st));
}

Checkpoint *checkpoint_load(const char *path, unsigned parts, Status *st)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fail(st, "cannot read %s: %s; check the path", path, strerror(errno));
        return NULL;
    }
    Checkpoint *c = NULL;
    H5Reader *r = NULL;
    /* What is read is what was verified, even when another process renames a newer file to this path. */
    char same[64];
    snprintf(same, sizeof same, "/proc/self/fd/%d", fd);
    if (seal_verify(fd, path, st) && (r = h5_open(same, path, st))) {
        c = calloc(1, sizeof *c);
        CHECK(c);
        if (!read_all(r, path, parts, c, st)) {
            checkpoint_free(c);
            c = NULL;
        }
    }
    if (c && parts & CHECKPOINT_OPEN) c->open = r;
    else h5_reader_close(r);
    close(fd);
    return c;
}

/* HDF5 is for one thread at a time. */
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;

bool checkpoint_rows_read(const Checkpoint *c, const Param *p, size_t row, size_t n, float *out, Status *st)
{
    pthread_mutex_lock(&reading);
    bool ok = read_rows(c->open, p, row, n, out, st);
    pthread_mutex_unlock(&reading);
    return ok;
}

bool checkpoint_place(const Checkpoint *c, const Param *p, ParamPlace *out)
{
    char name[128];
    H5Place at;
    snprintf(name, sizeof name, "model/%s", p->name);
    pthread_mutex_lock(&reading);
    bool half = is_bf16(c->open, p), ok = h5_place(c->open, name, half ? H5_BF16 : H5_F32, p->count, &at);
    pthread_mutex_unlock(&reading);
    StDtype dtype = half ? ST_BF16 : ST_F32;
    if (ok) *out = (ParamPlace){at.path, at.shown, at.offset, p->count * st_dtype_size(dtype), dtype};
    return ok;
}

void checkpoint_free(Checkpoint *c)
{
    if (!c) return;
    params_free(&c->table);
    memory_free(c->weights);
    memory_free(c->m);
    memory_free(c->v);
    memory_free(c->reference);
    free(c->meta.recipe);
    free(c->meta.tokenizer);
    free(c->meta.extra);
    free(c->meta.base);
    free(c->meta.held);
    h5_reader_close(c->open);
    attachments_free(&c->meta.attached);
    attachments_free(&c->meta.state);
    free(c);
}
