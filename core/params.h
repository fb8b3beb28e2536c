/* The parameter table: one declarative list built from the config. Allocation, initialisation, optimizer, checkpoints,
 * import, export, counting and tests derive from it; nothing else lists tensors.
 *
 * All tensors of a role (weights, gradients, first and second moments) lie in one block, each at Param.offset (counted
 * in elements). Order: embedding, layers (the routed experts last in theirs), modules of multi-token prediction as further
 * layers, final norm, head, adapters. Every offset is a
 * multiple of 16, except where parameters follow each other without padding because products see them as one: the
 * projections of attention's input (q | k | v, q | kv_a or q_a | kv_a) and their biases; the gate | up of an MLP (dense,
 * shared or an expert), which together with its down is one slab; the biases of gate | up. The padding is zero in every
 * role. Where only some parameters are trained (params_select.h), gradients and moments lie at Param.state in smaller
 * blocks; moments that are not f32 (core/moments.h) at Param.moment. */
#ifndef CORE_PARAMS_H
#define CORE_PARAMS_H

#include "core/config.h"
#include "core/matrix.h"
#include "core/moments.h"

typedef enum {
    PARAM_EMBED,
    PARAM_ATTN_NORM,
    PARAM_Q,
    PARAM_Q_A,
    PARAM_Q_A_NORM,
    PARAM_Q_B,
    PARAM_KV_A,
    PARAM_KV_A_NORM,
    PARAM_KV_B,
    PARAM_K,
    PARAM_V,
    PARAM_Q_BIAS,
    PARAM_K_BIAS,
    PARAM_V_BIAS,
    PARAM_Q_NORM,
    PARAM_K_NORM,
    PARAM_O,
    PARAM_O_BIAS,
    PARAM_FFN_NORM,
    PARAM_GATE,
    PARAM_UP,
    PARAM_DOWN,
    PARAM_GATE_BIAS,
    PARAM_UP_BIAS,
    PARAM_DOWN_BIAS,
    PARAM_ROUTER,
    PARAM_ROUTER_BIAS,
    PARAM_EXPERT_GATE,
    PARAM_EXPERT_UP,
    PARAM_EXPERT_DOWN,
    PARAM_SHARED_GATE,
    PARAM_SHARED_UP,
    PARAM_SHARED_DOWN,
    PARAM_ENORM,
    PARAM_HNORM,
    PARAM_EH_PROJ,
    PARAM_MTP_NORM,
    PARAM_NORM,
    PARAM_HEAD,
    PARAM_SCORE,
    PARAM_LORA_A,
    PARAM_LORA_B,
    PARAM_KINDS
} ParamKind;

/* Whether its rows go on with the matrix (or vector) of the parameter before it. */
static inline bool param_joins(ParamKind kind)
{
    return kind == PARAM_KV_A || kind == PARAM_K || kind == PARAM_V || kind == PARAM_K_BIAS || kind == PARAM_V_BIAS ||
           kind == PARAM_UP || kind == PARAM_UP_BIAS || kind == PARAM_EXPERT_UP || kind == PARAM_SHARED_UP;
}

enum { PARAM_ALIGNMENT = 16 }; /* elements: a cache line of f32 */

typedef enum { INIT_NORMAL, INIT_ONES, INIT_ZEROS, INIT_UNIFORM } ParamInit; /* uniform: +-1 / sqrt(cols) */

typedef struct Param {
    char name[88]; /* the HF checkpoint's name */
    ParamKind kind;
    int layer, expert; /* -1 where there is none */
    int base;          /* of an adapter's A or B: index of the matrix that it is added to; -1 */
    int ndim;          /* 1 or 2 */
    size_t rows, cols; /* [out, in]; a vector is rows x 1 */
    size_t count;      /* rows * cols */
    size_t offset;     /* of the first element in a role's block */
    ParamInit init;
    bool decay; /* weight decay: matrices only */
    bool
        split; /* bf16 in bf16 mode, with its lower halves (core/weight_block.h): matrices but the router and a scalar head */
    size_t plain;  /* not split: of its first element among all that is not */
    bool chosen;   /* what `train:` names (params_select.h): may change. All of them after params_build */
    bool trained;  /* chosen, and by its gradient: not e_score_correction_bias */
    size_t state;  /* of its first element in the block of gradients; SIZE_MAX: it has none. All trained: offset */
    size_t moment; /* of its first byte in the block of a moment (f32: 4 * state); SIZE_MAX as state */
    bool apart;    /* its weights lie at `state` of a block of their own, not with its part (params_set_apart) */
} Param;

/* Where a parameter begins in the block that holds its weights. */
static inline size_t param_place(const Param *p)
{
    return p->apart ? p->state : p->offset;
}

/* Parameters that come and go together: a contiguous run of the table. In order: the embedding; of each layer its trunk (all but
 * the routed experts), then its experts; the final norm with the head; all adapters. */
typedef struct Part {
    int layer, expert;    /* (-1, -1): embedding; (l, -1): trunk; (L, -1): norm and head; (L + 1, -1): adapters */
    int first, n;         /* parameters */
    size_t offset, count; /* of a role's block, padding between its parameters included */
} Part;

typedef struct ParamTable {
    Param *params;
    int n, L;       /* tensors; layers, modules of multi-token prediction included */
    int modules;    /* how many of these are such */
    int adapters;   /* index of the first adapter: what is before is the model proper; n where there is none */
    int (*lora)[2]; /* [adapters] indices of A and B of parameter i, -1 where it has none; NULL: no adapters at all */
    size_t total;   /* elements of a role's block, padding included */
    size_t plain_total;   /* of them what is not split, with its padding */
    size_t count;         /* parameters proper */
    int *layer_first;     /* [L + 1] index of the first parameter of layer l; [L] is the first after the layers */
    size_t active;        /* parameters a token uses (K experts), embedding and head included, modules not */
    size_t mtp_active;    /* those of the modules alone */
    size_t state_total;   /* elements of the block of gradients; all trained: total */
    MomentForm moments;   /* how moments are stored (params_moments), and what one of them takes: */
    size_t moment_total;  /* bytes; f32: 4 * state_total */
    size_t trained_count; /* parameters that are trained */
    int lowest_trained; /* layer where backward ends: the lowest with a trained parameter; -1: the embedding is; L: none */
    int *by_name;       /* [n] indices in ascending order of names */
    Part *parts;        /* in order of the table */
    int n_parts;
    int *layer_part; /* [L + 1] the trunk of layer l; [L] the last part */
} ParamTable;

/* The kind of the bias that is added to a matrix's product, the first one where several are one vector; -1: there is no such. */
int param_bias_of(ParamKind kind);

/* The target (LoraTarget) that a kind belongs to; -1: it can have no adapter. */
int param_lora_target(ParamKind kind);

/* Builds the table for a validated config. Free with params_free. */
ParamTable params_build(const ModelConfig *c);
void params_free(ParamTable *t);

/* Index of the parameter (layer, expert = -1 where there is none), or -1 when there is no such tensor. Constant time. */
int params_find(const ParamTable *t, ParamKind kind, int layer, int expert);
int params_find_name(const ParamTable *t, const char *name);

/* Index of a part: (layer, expert) as in Part. Constant time. */
int params_part(const ParamTable *t, int layer, int expert);

/* Rows of the matrix that parameter i begins, those that join it included; 0: it joins one itself. */
size_t params_joined_rows(const ParamTable *t, int i);

/* Fills block (table->total elements) with initial values: each tensor by Philox keyed with its name. */
void params_init(const ParamTable *t, const ModelConfig *c, float *block, uint32_t seed);
/* The adapters alone, of which `adapters` is the first one's place: A uniform, B 0, so that they change nothing yet. */
void params_init_adapters(const ParamTable *t, float *adapters, uint32_t seed);
/* Their elements, padding included, and where they begin in a block of the table. */
size_t params_adapters(const ParamTable *t, size_t *first);

/* Fills block tensor by tensor, with zeros between them: read writes p->count values to w, or fails. */
bool params_fill(const ParamTable *t, float *block, bool (*read)(void *from, const Param *p, float *w, Status *st),
                 void *from, Status *st);

/* Indices of the table in ascending order of names (strcmp), for hashes and files; [t->n], caller frees. */
int *params_name_order(const ParamTable *t);

#endif
