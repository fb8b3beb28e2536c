#include "core/engine.h"

#include "core/check.h"

void engine_open(Engine *e, const ModelConfig *c, const EngineOptions *o)
{
    CHECK_EQ(o->ops->abi, OPS_ABI);
    *e = (Engine){.ops = o->ops, .backend = o->backend, .config = c, .dtype = o->dtype, .keep_bytes = o->keep_bytes};
    e->chunk = (o->chunk + TOKEN_BLOCK - 1) / TOKEN_BLOCK * TOKEN_BLOCK;
    if (e->chunk < TOKEN_BLOCK) e->chunk = TOKEN_BLOCK;
    e->table = params_build(c);
    e->attention = (AttentionShape){c->H, c->Hkv, c->Dn, c->Dr, c->Dv, config_attention_scale(c)};
    e->router = (RouterShape){.E = c->E,
                              .K = c->K,
                              .topk = c->topk,
                              .score = c->score,
                              .n_group = c->n_group,
                              .topk_group = c->topk_group,
                              .norm_topk = c->norm_topk,
                              .scale_after_norm = c->topk == TOPK_NOAUX,
                              .mask_zero = c->mask_zero,
                              .scale = c->routed_scale};
}

void engine_reach(Engine *e, int positions)
{
    if (positions <= e->rope.positions) return;
    int reach = e->rope.positions ? 2 * e->rope.positions : 256;
    rope_table_free(&e->rope);
    e->rope = rope_table_build(e->config, positions > reach ? positions : reach);
}

Mat engine_as(Engine *e, DType dtype, Mat m)
{
    if (m.dtype == dtype) return m;
    Mat copy = mat_of(arena_alloc(&e->arena, m.rows * m.cols * dtype_size(dtype)), dtype, m.rows, m.cols);
    e->ops->copy(e->backend, copy, m);
    return copy;
}

void engine_close(Engine *e)
{
    params_free(&e->table);
    rope_table_free(&e->rope);
    arena_free(&e->arena);
    *e = (Engine){0};
}
