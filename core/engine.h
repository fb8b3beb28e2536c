/* An engine: a config on a backend with the workspace of its steps. Weights are not part of it: the policy, the reference
 * policy and a reward model of the same shape run on one engine with different Weights. */
#ifndef CORE_ENGINE_H
#define CORE_ENGINE_H

#include "core/base/arena.h"
#include "core/batch.h"
#include "core/ops/ops.h"
#include "core/rope_table.h"
#include "core/weights.h"

/* Memory of the host in which downloads that are fetched later arrive; it grows and is kept. Zero-initialise. */
typedef struct Landing {
    void *p;
    size_t bytes;
} Landing;

typedef struct Engine {
    const Ops *ops;
    Backend *backend;
    const ModelConfig *config;
    DType
        dtype; /* of matrices and of a layer's interior; the residual stream, norms, router, softmax and gradients are f32 */
    ParamTable table;
    AttentionShape attention; /* of training, prefill and exact decode */
    RouterShape router;
    RopeTable rope;    /* cos and sin where ops read them */
    Arena arena;       /* of the device: what ops work on */
    Arena host;        /* of the process: C arrays, and what goes to the device or comes from it */
    Landing head;      /* of statistics of head chunks in flight */
    Landing balance;   /* of the balance losses' sums */
    int chunk;         /* rows of a head chunk: a multiple of TOKEN_BLOCK */
    size_t keep_bytes; /* layer interiors are kept for backward while they fit in this; the rest is recomputed */
    long chunks_run;   /* head chunks so far (tests compare) */
    int layers_kept;   /* of the last training forward */
    struct TokenDrop
        *drop; /* of the forward and backward of a training step that drops tokens (core/token_drop.h); else NULL */
    const struct RoutingGiven
        *given;   /* choices of experts that the coming forward takes (core/block.h); NULL: its own */
    bool mtp_ran; /* the last gradients are also of the modules of multi-token prediction */
} Engine;

typedef struct EngineOptions {
    const Ops *ops;
    Backend *backend;
    DType dtype;
    int chunk; /* rounded up to a multiple of TOKEN_BLOCK */
    size_t keep_bytes;
} EngineOptions;

/* config must outlive the engine. Free with engine_close. */
void engine_open(Engine *e, const ModelConfig *config, const EngineOptions *options);
void engine_close(Engine *e);

/* Both arenas. */
typedef struct EngineMark {
    ArenaMark arena, host;
} EngineMark;
EngineMark engine_mark(const Engine *e);
void engine_release(Engine *e, EngineMark mark);
void engine_reset(Engine *e);

/* A host array where ops read it: itself where the device is the process's memory, else a copy in the arena. */
const void *engine_upload(Engine *e, const void *host, size_t bytes);
const int32_t *engine_upload_ints(Engine *e, const int32_t *host, size_t n);
/* What ops wrote, on the host: itself, or a copy in the host arena. */
const void *engine_download(Engine *e, const void *device, size_t bytes);

/* Room for bytes; what was in it is gone, and nothing may be on its way there. Ends the program when there is none. */
void *engine_landing(Engine *e, Landing *l, size_t bytes);
void engine_landing_free(Engine *e, Landing *l);

/* m itself when it is of this dtype, else a converted copy in the arena. */
Mat engine_as(Engine *e, DType dtype, Mat m);

/* The layer where backward ends. */
static inline int engine_lowest(const Engine *e)
{
    return e->table.lowest_trained < 0 ? 0 : e->table.lowest_trained;
}

/* dw += dy^T x, dbias += sum of dy's rows; nothing where the matrix is frozen (dw.p NULL). */
static inline void weight_grad(Engine *e, Mat dw, float *dbias, Mat dy, Mat x)
{
    if (dw.p) e->ops->linear_bwd_w(e->backend, dw, dbias, dy, x);
}

/* Makes the rotary tables cover positions 0 .. positions - 1 (grows by doubling). */
void engine_reach(Engine *e, int positions);

#endif
