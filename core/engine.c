/* A config on a backend: arenas, rotary tables, the switch of types. */
#include "core/engine.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"

void engine_open(Engine *e, const ModelConfig *c, const EngineOptions *o)
{
    CHECK_EQ(o->ops->abi, OPS_ABI);
    *e = (Engine){.ops = o->ops, .backend = o->backend, .config = c, .dtype = o->dtype, .keep_bytes = o->keep_bytes};
    e->chunk = (o->chunk + TOKEN_BLOCK - 1) / TOKEN_BLOCK * TOKEN_BLOCK;
    if (e->chunk < TOKEN_BLOCK) e->chunk = TOKEN_BLOCK;
    e->table = params_build(c);
    e->arena = arena_of(&o->ops->device, o->backend);
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

static void drop_angles(Engine *e)
{
    if (e->ops->device.host) rope_table_free(&e->rope);
    else e->ops->device.free(e->backend, e->rope.cos);
    e->rope = (RopeTable){0};
}

void engine_reach(Engine *e, int positions)
{
    if (positions <= e->rope.positions) return;
    const Device *d = &e->ops->device;
    int reach = 256; /* a power of two, whatever was asked for before: `r1 plan` counts it */
    while (reach < positions) reach *= 2;
    drop_angles(e);
    e->rope = rope_table_build(e->config, reach);
    if (d->host) return;
    RopeTable host = e->rope;
    size_t n = (size_t)host.positions * (size_t)host.half;
    e->rope.cos = d->alloc(e->backend, 2 * n * sizeof(float));
    CHECK(e->rope.cos != NULL);
    e->rope.sin = e->rope.cos + n;
    d->upload(e->backend, e->rope.cos, host.cos, 2 * n * sizeof(float));
    rope_table_free(&host);
}

EngineMark engine_mark(const Engine *e)
{
    return (EngineMark){arena_mark(&e->arena), arena_mark(&e->host)};
}

void engine_release(Engine *e, EngineMark mark)
{
    arena_release(&e->arena, mark.arena);
    arena_release(&e->host, mark.host);
}

void engine_reset(Engine *e)
{
    arena_reset(&e->arena);
    arena_reset(&e->host);
}

const void *engine_upload(Engine *e, const void *host, size_t bytes)
{
    if (e->ops->device.host) return host;
    void *there = arena_alloc(&e->arena, bytes);
    e->ops->device.upload(e->backend, there, host, bytes);
    return there;
}

const int32_t *engine_upload_ints(Engine *e, const int32_t *host, size_t n)
{
    return engine_upload(e, host, n * sizeof *host);
}

const void *engine_download(Engine *e, const void *device, size_t bytes)
{
    if (e->ops->device.host) return device;
    void *here = arena_alloc(&e->host, bytes);
    e->ops->device.download(e->backend, here, device, bytes);
    return here;
}

void *engine_landing(Engine *e, Landing *l, size_t bytes)
{
    if (bytes <= l->bytes) return l->p;
    engine_landing_free(e, l);
    l->p = e->ops->device.host_new(e->backend, bytes);
    if (!l->p) {
        fprintf(stderr, "r1: out of memory: no %zu bytes of the host that the device can write; try a smaller batch\n",
                bytes);
        exit(1);
    }
    l->bytes = bytes;
    return l->p;
}

void engine_landing_free(Engine *e, Landing *l)
{
    if (l->p) e->ops->device.host_free(e->backend, l->p);
    *l = (Landing){0};
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
    drop_angles(e);
    engine_landing_free(e, &e->head);
    engine_landing_free(e, &e->balance);
    arena_free(&e->arena);
    arena_free(&e->host);
    *e = (Engine){0};
}
