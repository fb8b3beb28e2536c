/* Weights out of a Hugging Face folder: names, fused experts, FP8 blocks, what is left over. */
#include "checkpoints/hf/hf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoints/float16.h"
#include "checkpoints/mapping.h"
#include "core/base/check.h"
#include "data/file.h"

enum { FP8_BLOCK = 128 };

static bool has_shape(const StTensor *t, const Param *p)
{
    if (p->ndim == 1) return t->ndim == 1 && t->shape[0] == p->rows;
    return t->ndim == 2 && t->shape[0] == p->rows && t->shape[1] == p->cols;
}

static bool fail_shape(const StTensor *t, const Param *p, const char *folder, Status *st)
{
    char shape[200] = "";
    for (int i = 0; i < t->ndim; i++)
        snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%" PRIu64, i ? ", " : "", t->shape[i]);
    if (p->ndim == 1)
        return fail(st, "%s: %s has shape [%s], but config.json makes it [%zu]: do the two belong together?", folder,
                    p->name, shape, p->rows);
    return fail(st, "%s: %s has shape [%s], but config.json makes it [%zu, %zu]: do the two belong together?", folder,
                p->name, shape, p->rows, p->cols);
}

/* FP8 releases (DeepSeek-V3): NAME_scale_inv holds one factor for each block of 128 x 128. */
static bool apply_block_scales(const StFile *f, const StTensor *t, float *w, const char *folder, Status *st)
{
    char name[256];
    snprintf(name, sizeof name, "%.200s_scale_inv", t->name);
    const StTensor *scales = st_find(f, name);
    size_t rows = t->shape[0], cols = t->shape[1];
    size_t down = (rows + FP8_BLOCK - 1) / FP8_BLOCK, across = (cols + FP8_BLOCK - 1) / FP8_BLOCK;
    if (t->ndim != 2 || !scales || scales->ndim != 2 || scales->shape[0] != down || scales->shape[1] != across)
        return fail(st, "%s: %s is FP8, but %s is missing or has not shape [%zu, %zu]", folder, t->name, name, down,
                    across);
    float *scale = malloc(down * across * sizeof *scale + 1);
    CHECK(scale);
    bool ok = st_read_f32(scales, scale, st);
    for (size_t i = 0; ok && i < rows; i++)
        for (size_t j = 0; j < cols; j++) w[i * cols + j] *= scale[i / FP8_BLOCK * across + j / FP8_BLOCK];
    free(scale);
    return ok;
}

/* transformers 5 may store a layer's experts fused: gate_up_proj [E, 2F, C] (gate rows first), down_proj [E, C, F].
 * Element `from` of *fused is the first of p. */
static const StTensor *find_fused(const StFile *f, const ModelConfig *c, const Param *p, uint64_t *from)
{
    if (p->expert < 0) return NULL;
    bool down = p->kind == PARAM_EXPERT_DOWN;
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%s", p->layer, down ? "down_proj" : "gate_up_proj");
    const StTensor *t = st_find(f, name);
    uint64_t rows = down ? p->rows : 2 * p->rows;
    if (!t || t->ndim != 3 || t->shape[0] != (uint64_t)c->E || t->shape[1] != rows || t->shape[2] != p->cols)
        return NULL;
    *from = (uint64_t)p->expert * rows * p->cols + (p->kind == PARAM_EXPERT_UP ? p->count : 0);
    return t;
}

bool hf_param_read(const StFile *f, const char *folder, const ModelConfig *c, const Param *p, float *w, Status *st)
{
    const StTensor *t = st_find(f, p->name);
    if (!t) {
        uint64_t from;
        t = find_fused(f, c, p, &from);
        if (!t)
            return fail(st, "%s: tensor %s is missing: the folder is incomplete, or config.json is another model's",
                        folder, p->name);
        if (t->dtype == ST_F8_E4M3 || t->dtype == ST_F8_E5M2)
            return fail(st,
                        "%s: %s holds fused experts in FP8, whose scales are not read: save it with a tensor an expert",
                        folder, t->name);
        if (!w) return true;
        bool ok = st_read_f32_part(t, from, p->count, w, st);
        st_forget(f, t, from * st_dtype_size(t->dtype), p->count * st_dtype_size(t->dtype));
        return ok;
    }
    if (!has_shape(t, p)) return fail_shape(t, p, folder, st);
    if (!w) return true;
    bool ok = st_read_f32(t, w, st);
    st_forget(f, t, 0, t->bytes);
    if (!ok) return fail_prefix(st, "%s", folder);
    return t->dtype != ST_F8_E4M3 || apply_block_scales(f, t, w, folder, st);
}

bool hf_rows_read(const StFile *f, const ModelConfig *c, const Param *p, size_t row, size_t n, float *w, Status *st)
{
    uint64_t from = 0;
    const StTensor *t = st_find(f, p->name);
    if (!t) t = find_fused(f, c, p, &from);
    if (!t || t->dtype == ST_F8_E4M3) return false;
    size_t each = st_dtype_size(t->dtype);
    from += row * p->cols;
    bool ok = st_read_f32_part(t, from, n * p->cols, w, st);
    st_forget(f, t, from * each, n * p->cols * each);
    return ok;
}

const void *hf_param_bf16(const StFile *f, const ModelConfig *c, const Param *p)
{
    uint64_t from = 0;
    const StTensor *t = st_find(f, p->name);
    if (!t) t = find_fused(f, c, p, &from);
    return t && t->dtype == ST_BF16 ? (const char *)t->data + 2 * from : NULL;
}

bool hf_param_place(const StFile *f, const ModelConfig *c, const Param *p, ParamPlace *out)
{
    uint64_t from = 0;
    const StTensor *t = st_find(f, p->name);
    if (!t) t = find_fused(f, c, p, &from);
    if (!t || (t->dtype != ST_BF16 && t->dtype != ST_F16 && t->dtype != ST_F32)) return false;
    size_t each = st_dtype_size(t->dtype);
    *out = (ParamPlace){.bytes = p->count * each, .dtype = t->dtype};
    out->path = out->shown = st_place(f, t, &out->offset);
    out->offset += from * each;
    return true;
}

/* The layer of "model.layers.N....", or -1. */
static int layer_of(const char *name)
{
    int layer, end = 0;
    return sscanf(name, "model.layers.%d.%n", &layer, &end) == 1 && end > 0 ? layer : -1;
}

/* Whether two tensors hold the same numbers, compared as f32. */
static bool same_values(const StTensor *a, const StTensor *b)
{
    enum { PART = 4096 };
    float x[PART], y[PART];
    Status unread = {0};
    if (a->ndim != b->ndim || memcmp(a->shape, b->shape, sizeof a->shape)) return false;
    if (a->dtype == b->dtype) return a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes);
    for (uint64_t i = 0; i < a->count; i += PART) {
        uint64_t n = a->count - i < PART ? a->count - i : PART;
        if (!st_read_f32_part(a, i, n, x, &unread) || !st_read_f32_part(b, i, n, y, &unread)) return false;
        if (memcmp(x, y, n * sizeof *x)) return false;
    }
    return true;
}

void hf_untie(const StFile *f, ModelConfig *c)
{
    const StTensor *head = st_find(f, "lm_head.weight"), *embedding = st_find(f, "model.embed_tokens.weight");
    if (!c->tied || !head || !embedding || c->head != HEAD_LM) return;
    c->tied = same_values(head, embedding);
    mapping_forget(head->data, head->bytes);
    mapping_forget(embedding->data, embedding->bytes);
}

void hf_mtp_copy_name(const ModelConfig *c, int k, int copy, char name[96])
{
    snprintf(name, 96, "model.layers.%d.%s.weight", c->L + k, copy ? "shared_head.head" : "embed_tokens");
}

/* Whether the copies of embedding and head that module k has in the file, if any, are the model's. */
static bool copies_are_shared(const StFile *f, const ModelConfig *c, int k)
{
    bool same = true;
    for (int i = 0; i < HF_MTP_COPIES && same; i++) {
        char name[96];
        hf_mtp_copy_name(c, k, i, name);
        const StTensor *copy = st_find(f, name);
        const StTensor *own = st_find(f, i && !c->tied ? "lm_head.weight" : "model.embed_tokens.weight");
        if (!copy) continue;
        same = own && same_values(copy, own);
        mapping_forget(copy->data, copy->bytes);
    }
    return same;
}

void hf_find_mtp(const StFile *f, ModelConfig *c)
{
    ModelConfig with = *c;
    with.mtp = c->mtp_layers;
    c->mtp = 0;
    if (!with.mtp || c->head != HEAD_LM) return;
    ParamTable t = params_build(&with);
    bool whole = true;
    for (int i = 0; i < t.n && whole; i++) {
        const Param *p = &t.params[i];
        const StTensor *its = p->layer >= c->L ? st_find(f, p->name) : NULL;
        if (p->layer >= c->L) whole = its && its->dtype != ST_F8_E4M3 && has_shape(its, p);
    }
    params_free(&t);
    for (int k = 0; k < with.mtp && whole; k++) whole = copies_are_shared(f, c, k);
    if (whole) c->mtp = with.mtp;
}

/* Tensors that are part of no model but lie in many files: buffers that are computed. */
static bool is_buffer(const char *name)
{
    static const char *const ends[] = {".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached",
                                       ".attn.bias", ".attn.masked_bias"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && !strcmp(name + n - m, ends[i])) return true;
    }
    return false;
}

static bool ends_in(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

/* Fused experts and FP8 scales are read with the parameters that they belong to; later layers are carried along. */
static bool is_used(const ModelConfig *c, const char *name)
{
    int layer = layer_of(name);
    if (ends_in(name, "_scale_inv") || is_buffer(name)) return true;
    if (layer >= c->L) return layer < c->L + c->mtp_layers;
    if (c->tied && !strcmp(name, "lm_head.weight")) return true;
    return c->E && (ends_in(name, ".mlp.experts.gate_up_proj") || ends_in(name, ".mlp.experts.down_proj"));
}

bool hf_all_used(const StFile *f, const char *folder, const ModelConfig *c, const ParamTable *t, Status *st)
{
    int unused = 0;
    const char *first = NULL;
    bool *read = calloc(st_count(f) + 1, sizeof *read);
    CHECK(read);
    for (int i = 0; i < t->n; i++) {
        const StTensor *its = st_find(f, t->params[i].name);
        if (its) read[its - st_at(f, 0)] = true;
    }
    for (size_t i = 0; i < st_count(f); i++) {
        const char *name = st_at(f, i)->name;
        if (!read[i] && st_at(f, i)->count && !is_used(c, name) && !unused++) first = name;
    }
    free(read);
    if (!unused) return true;
    return fail(
        st,
        "%s: %.100s%s no part of a %s as config.json describes it: the model would compute something else without "
        "it",
        folder, first, unused > 1 ? " and other tensors are" : " is", arch_name(c->arch));
}

typedef struct Source {
    const StFile *f;
    const char *folder;
    const ModelConfig *c;
} Source;

static bool read_param(void *from, const Param *p, float *w, Status *st)
{
    const Source *s = from;
    return hf_param_read(s->f, s->folder, s->c, p, w, st);
}

bool hf_weights_fill(const StFile *f, const char *folder, const ModelConfig *c, const ParamTable *t, float *weights,
                     Status *st)
{
    for (int i = 0; i < t->n; i++)
        if (!hf_param_read(f, folder, c, &t->params[i], NULL, st)) return false;
    if (!weights) return true;
    Source source = {f, folder, c};
    return params_fill(t, weights, read_param, &source, st);
}

bool hf_weights_read(const char *folder, const ModelConfig *c, const ParamTable *t, float *weights, Status *st)
{
    StFile *f = st_open(folder, st);
    if (!f) return false;
    bool ok = hf_weights_fill(f, folder, c, t, weights, st);
    st_close(f);
    return ok;
}

/* ---- What an export carries along ---- */

static bool attach_fp8(const StFile *f, const char *folder, const StTensor *t, Attachments *out, Status *st)
{
    float *wide = malloc(t->count * sizeof *wide + 1);
    uint16_t *narrow = malloc(t->count * sizeof *narrow + 1);
    CHECK(wide && narrow);
    bool ok = st_read_f32(t, wide, st) && apply_block_scales(f, t, wide, folder, st);
    for (uint64_t i = 0; ok && i < t->count; i++) narrow[i] = bf16_of_f32(wide[i]);
    free(wide);
    StTensor copy = *t;
    copy.dtype = ST_BF16;
    copy.bytes = 2 * t->count;
    copy.data = narrow;
    if (ok) attach_tensor(out, &copy, true);
    else free(narrow);
    return ok;
}

static bool attach_later_layers(const StFile *f, const char *folder, const ModelConfig *c, Attachments *out, Status *st)
{
    for (size_t i = 0; i < st_count(f); i++) {
        const StTensor *t = st_at(f, i);
        int layer = layer_of(t->name);
        if (layer < c->L || layer >= c->L + c->mtp_layers || strstr(t->name, "_scale_inv")) continue;
        if (st_dtype_size(t->dtype) == 0)
            return fail(st, "%s: %.200s has a dtype that cannot be carried along", folder, t->name);
        if (t->dtype != ST_F8_E4M3) attach_tensor(out, t, false);
        else if (!attach_fp8(f, folder, t, out, st)) return false;
    }
    return true;
}

bool hf_attach(const StFile *f, const char *folder, const ModelConfig *c, Attachments *out, Status *st)
{
    static const char *const names[] = {"generation_config.json",
                                        "special_tokens_map.json",
                                        "chat_template.jinja",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[8192];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (access(path, F_OK)) continue;
        size_t length;
        char *bytes = file_read(path, &length, st);
        if (!bytes) return false;
        attach_file(out, names[i], bytes, length);
        free(bytes);
    }
    return c->mtp || attach_later_layers(f, folder, c, out, st);
}
