#include "checkpoints/hf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/safetensors.h"
#include "core/check.h"

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
        return fail(st, "%s: %s has shape [%s], but config.json makes it [%zu]: do the two belong together?", folder, p->name,
                    shape, p->rows);
    return fail(st, "%s: %s has shape [%s], but config.json makes it [%zu, %zu]: do the two belong together?", folder, p->name,
                shape, p->rows, p->cols);
}

/* FP8 releases (DeepSeek-V3): NAME_scale_inv holds one factor for each block of 128 x 128. */
static bool apply_block_scales(const StFile *f, const Param *p, float *w, const char *folder, Status *st)
{
    char name[128];
    snprintf(name, sizeof name, "%s_scale_inv", p->name);
    const StTensor *scales = st_find(f, name);
    size_t rows = (p->rows + FP8_BLOCK - 1) / FP8_BLOCK, cols = (p->cols + FP8_BLOCK - 1) / FP8_BLOCK;
    if (!scales || scales->ndim != 2 || scales->shape[0] != rows || scales->shape[1] != cols)
        return fail(st, "%s: %s is FP8, but %s is missing or has not shape [%zu, %zu]", folder, p->name, name, rows, cols);
    float *scale = malloc(rows * cols * sizeof *scale);
    CHECK(scale);
    bool ok = st_read_f32(scales, scale, st);
    for (size_t i = 0; ok && i < p->rows; i++)
        for (size_t j = 0; j < p->cols; j++) w[i * p->cols + j] *= scale[i / FP8_BLOCK * cols + j / FP8_BLOCK];
    free(scale);
    return ok;
}

/* transformers 5 may store a layer's experts fused: gate_up_proj [E, 2F, C] (gate rows first), down_proj [E, C, F]. Element
 * `from` of *fused is the first of p. */
static const StTensor *find_fused(const StFile *f, const ModelConfig *c, const Param *p, uint64_t *from)
{
    if (p->expert < 0) return NULL;
    bool down = p->kind == PARAM_EXPERT_DOWN;
    char name[128];
    snprintf(name, sizeof name, "model.layers.%d.mlp.experts.%s", p->layer, down ? "down_proj" : "gate_up_proj");
    const StTensor *t = st_find(f, name);
    uint64_t rows = down ? p->rows : 2 * p->rows;
    if (!t || t->ndim != 3 || t->shape[0] != (uint64_t)c->E || t->shape[1] != rows || t->shape[2] != p->cols) return NULL;
    *from = (uint64_t)p->expert * rows * p->cols + (p->kind == PARAM_EXPERT_UP ? p->count : 0);
    return t;
}

static bool read_param(const StFile *f, const ModelConfig *c, const Param *p, float *w, const char *folder, Status *st)
{
    const StTensor *t = st_find(f, p->name);
    if (!t) {
        uint64_t from;
        t = find_fused(f, c, p, &from);
        if (!t)
            return fail(st, "%s: tensor %s is missing: the folder is incomplete, or config.json is another model's", folder,
                        p->name);
        return st_read_f32_part(t, from, p->count, w, st);
    }
    if (!has_shape(t, p)) return fail_shape(t, p, folder, st);
    if (!st_read_f32(t, w, st)) return fail_prefix(st, "%s", folder);
    return t->dtype != ST_F8_E4M3 || apply_block_scales(f, p, w, folder, st);
}

bool hf_weights_fill(const StFile *f, const char *folder, const ModelConfig *c, const ParamTable *t, float *weights, Status *st)
{
    size_t end = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        memset(weights + end, 0, (p->offset - end) * sizeof *weights);
        if (!read_param(f, c, p, weights + p->offset, folder, st)) return false;
        end = p->offset + p->count;
    }
    memset(weights + end, 0, (t->total - end) * sizeof *weights);
    return true;
}

bool hf_weights_read(const char *folder, const ModelConfig *c, const ParamTable *t, float *weights, Status *st)
{
    StFile *f = st_open(folder, st);
    if (!f) return false;
    bool ok = hf_weights_fill(f, folder, c, t, weights, st);
    st_close(f);
    return ok;
}
