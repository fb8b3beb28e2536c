/* A model written as GGUF: which tensors, in which type, and their data. */
#include "checkpoints/gguf/gguf_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/durable.h"
#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/gguf/gguf_names.h"
#include "checkpoints/float16.h"
#include "core/base/check.h"

enum { ALIGNMENT = 32, CHUNK = 1 << 14 }; /* CHUNK: elements converted at a time, a multiple of 32 */

typedef enum { PLAIN, PERMUTED, STACK, K_HALF, V_HALF, FREQUENCIES } Gather; /* FREQUENCIES: of no parameter */

/* A tensor of the file, made from the table's parameter `first` (and for a stack of its E experts). */
typedef struct Out {
    char name[96];
    Gather gather;
    int first;
    uint32_t type;
    int ndim;
    uint64_t ne[3], bytes;
} Out;

typedef struct Job {
    const ModelConfig *c;
    const ParamTable *t;
    const WeightSource *weights;
    FILE *out;
    Out *list;
    int n;
} Job;

static uint32_t type_of(const Param *p, uint64_t row, GgufTarget target)
{
    static const uint32_t types[] = {[GGUF_WRITE_F32] = GGML_F32,
                                     [GGUF_WRITE_F16] = GGML_F16,
                                     [GGUF_WRITE_BF16] = GGML_BF16,
                                     [GGUF_WRITE_Q8_0] = GGML_Q8_0};
    if (p->ndim == 1 || p->kind == PARAM_ROUTER) return GGML_F32;
    return target == GGUF_WRITE_Q8_0 && row % 32 ? GGML_F16 : types[target];
}

static void add(Job *job, int first, Gather gather, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2,
                GgufTarget target)
{
    const Param *p = &job->t->params[first];
    Out *o = &job->list[job->n++];
    *o = (Out){.gather = gather,
               .first = first,
               .type = type_of(p, ne0, target),
               .ndim = ne2 ? 3 : p->ndim,
               .ne = {ne0, ne1, ne2 ? ne2 : 1}};
    snprintf(o->name, sizeof o->name, "%s", name);
    unsigned elements = 1, bytes = 1;
    ggml_block(o->type, &elements, &bytes);
    o->bytes = ne0 * ne1 * o->ne[2] / elements * bytes;
}

/* Llama 3.1's scaling: what each rotary frequency is divided by. */
static void add_frequencies(Job *job)
{
    Out *o = &job->list[job->n++];
    uint64_t half = (uint64_t)job->c->Dr / 2;
    *o = (Out){.name = "rope_freqs.weight",
               .gather = FREQUENCIES,
               .type = GGML_F32,
               .ndim = 1,
               .ne = {half, 1, 1},
               .bytes = half * sizeof(float)};
}

static void list_tensors(Job *job, GgufTarget target)
{
    const ModelConfig *c = job->c;
    if (c->rope.scaling == ROPE_LLAMA3) add_frequencies(job);
    for (int i = 0; i < job->t->n; i++) {
        const Param *p = &job->t->params[i];
        char name[96];
        if (p->layer >= c->L) continue; /* modules of multi-token prediction have no place */
        CHECK(gguf_name(p, name, sizeof name));
        Gather gather = gguf_permuted(c->arch, p->kind) ? PERMUTED : PLAIN;
        if (p->kind == PARAM_KV_B) {
            snprintf(name, sizeof name, "blk.%d.attn_k_b.weight", p->layer);
            add(job, i, K_HALF, name, (uint64_t)c->Dn, (uint64_t)c->Rkv, (uint64_t)c->H, target);
            snprintf(name, sizeof name, "blk.%d.attn_v_b.weight", p->layer);
            add(job, i, V_HALF, name, (uint64_t)c->Rkv, (uint64_t)c->Dv, (uint64_t)c->H, target);
        } else if (p->expert >= 0) {
            if (p->expert == 0) add(job, i, STACK, name, p->cols, p->rows, (uint64_t)c->E, target);
        } else if (p->ndim == 1) {
            add(job, i, gather, name, p->rows, 1, 0, target);
        } else {
            add(job, i, gather, name, p->cols, p->rows, 0, target);
        }
    }
}

/* ---- Data ---- */

static bool emit(const Job *job, const Out *o, const float *x, uint64_t n, Status *st)
{
    uint16_t halves[CHUNK];
    if (o->type == GGML_F32) return fwrite(x, sizeof *x, n, job->out) == n;
    const float *over = o->type == GGML_F16 ? beyond_f16(x, n) : NULL;
    if (over) return fail(st, "%s holds %g, too large for f16: export as bf16 or f32", o->name, (double)*over);
    for (uint64_t from = 0; from < n; from += CHUNK) {
        uint64_t count = n - from < CHUNK ? n - from : CHUNK;
        size_t bytes = 2 * count;
        if (o->type == GGML_Q8_0) {
            uint8_t blocks[CHUNK / 32 * 34];
            ggml_quantise_q8_0(x + from, count, blocks);
            bytes = count / 32 * 34;
            if (fwrite(blocks, 1, bytes, job->out) != bytes) return false;
            continue;
        }
        for (uint64_t i = 0; i < count; i++)
            halves[i] = o->type == GGML_F16 ? f16_of_f32(x[from + i]) : bf16_of_f32(x[from + i]);
        if (fwrite(halves, 1, bytes, job->out) != bytes) return false;
    }
    return true;
}

static bool emit_permuted(const Job *job, const Out *o, const Param *p, const float *w, Status *st)
{
    float *rows = malloc(p->count * sizeof *rows);
    CHECK(rows);
    for (size_t r = 0; r < p->rows; r++)
        memcpy(rows + gguf_permuted_row(r, (size_t)job->c->Dr) * p->cols, w + r * p->cols, p->cols * sizeof *rows);
    bool ok = emit(job, o, rows, p->count, st);
    free(rows);
    return ok;
}

static bool emit_kv_half(const Job *job, const Out *o, const float *w, Status *st)
{
    size_t R = (size_t)job->c->Rkv, Dn = (size_t)job->c->Dn, Dv = (size_t)job->c->Dv, H = (size_t)job->c->H;
    float *turned = malloc(R * Dn * sizeof *turned);
    CHECK(turned);
    bool ok = true;
    for (size_t h = 0; ok && h < H; h++) {
        const float *head = w + h * (Dn + Dv) * R;
        for (size_t r = 0; o->gather == K_HALF && r < R; r++)
            for (size_t j = 0; j < Dn; j++) turned[r * Dn + j] = head[j * R + r];
        ok = o->gather == K_HALF ? emit(job, o, turned, R * Dn, st) : emit(job, o, head + Dn * R, Dv * R, st);
    }
    free(turned);
    return ok;
}

static bool emit_frequencies(const Job *job, const Out *o, Status *st)
{
    ModelConfig plain = *job->c;
    plain.rope.scaling = ROPE_PLAIN;
    size_t half = (size_t)plain.Dr / 2;
    double multiplier, *from = malloc(2 * half * sizeof *from), *to = from + half;
    float *divisor = malloc(half * sizeof *divisor);
    CHECK(from && divisor);
    config_rope_frequencies(&plain, from, &multiplier);
    config_rope_frequencies(job->c, to, &multiplier);
    for (size_t i = 0; i < half; i++) divisor[i] = (float)(from[i] / to[i]);
    bool ok = emit(job, o, divisor, half, st);
    free(from);
    free(divisor);
    return ok;
}

typedef struct Emitting {
    const Job *job;
    const Out *o;
    size_t cols;
} Emitting;

static bool emit_rows(void *to, const float *w, size_t row, size_t n, Status *st)
{
    const Emitting *k = to;
    (void)row;
    return emit(k->job, k->o, w, n * k->cols, st);
}

static bool emit_in_order(const Job *job, const Out *o, const Param *p, Status *st)
{
    return source_rows(job->weights, p, emit_rows, &(Emitting){job, o, p->cols}, st);
}

static bool emit_tensor(const Job *job, const Out *o, Status *st)
{
    if (o->gather == FREQUENCIES) return emit_frequencies(job, o, st);
    const Param *p = &job->t->params[o->first];
    if (o->gather == PLAIN) return emit_in_order(job, o, p, st);
    bool ok = true;
    for (int e = 0; o->gather == STACK && ok && e < job->c->E; e++)
        ok = emit_in_order(job, o, &job->t->params[params_find(job->t, p->kind, p->layer, e)], st);
    if (o->gather == STACK) return ok;
    float *w = source_read(job->weights, p, st);
    ok = w && (o->gather == PERMUTED ? emit_permuted(job, o, p, w, st) : emit_kv_half(job, o, w, st));
    free(w);
    return ok;
}

static void pad(FILE *out, uint64_t written)
{
    for (uint64_t i = written % ALIGNMENT; i && i < ALIGNMENT; i++) fputc(0, out);
}

static void put_header(const Job *job, const char *keys, size_t keys_n, uint64_t nkeys)
{
    uint64_t offset = 0, start = 24 + keys_n;
    fwrite("GGUF", 1, 4, job->out);
    gguf_put_u64(job->out, 3, 4);
    gguf_put_u64(job->out, (uint64_t)job->n, 8);
    gguf_put_u64(job->out, nkeys, 8);
    fwrite(keys, 1, keys_n, job->out);
    for (int i = 0; i < job->n; i++) {
        const Out *o = &job->list[i];
        gguf_put_string(job->out, o->name, strlen(o->name));
        gguf_put_u64(job->out, (uint64_t)o->ndim, 4);
        for (int d = 0; d < o->ndim; d++) gguf_put_u64(job->out, o->ne[d], 8);
        gguf_put_u64(job->out, o->type, 4);
        gguf_put_u64(job->out, offset, 8);
        offset += (o->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        start += 8 + strlen(o->name) + 4 + 8 * (uint64_t)o->ndim + 4 + 8;
    }
    pad(job->out, start);
}

static bool write_file(Job *job, const char *path, const char *keys, size_t keys_n, uint64_t nkeys, Status *st)
{
    Durable file;
    uint64_t bytes = keys_n;
    for (int i = 0; i < job->n; i++) bytes += job->list[i].bytes;
    if (!durable_room(path, bytes, st) || !durable_begin(&file, path, st)) return false;
    job->out = fopen(file.temp, "wb");
    if (!job->out) return durable_fail(path, errno, st);
    put_header(job, keys, keys_n, nkeys);
    bool ok = true;
    for (int i = 0; ok && i < job->n; i++) {
        ok = emit_tensor(job, &job->list[i], st);
        pad(job->out, job->list[i].bytes);
    }
    ok = ok && fflush(job->out) == 0 && !ferror(job->out);
    int error = errno;
    if (fclose(job->out) && ok) ok = false, error = errno;
    if (ok) return durable_commit(&file, st);
    durable_abandon(&file);
    return durable_fail(path, error, st); /* an earlier sentence of emit stays */
}

bool gguf_write(const char *path, const char *model_name, const ModelConfig *c, const ParamTable *t,
                WeightSource weights, GgufTarget target, const Tokenizer *tokenizer, Status *st)
{
    char *keys = NULL;
    size_t keys_n = 0;
    GgufKeys k = {.out = open_memstream(&keys, &keys_n)};
    CHECK(k.out);
    bool ok = gguf_put_keys(&k, model_name, c, target, tokenizer, st);
    CHECK(fclose(k.out) == 0);
    if (ok) {
        Job job = {.c = c, .t = t, .weights = &weights, .list = malloc(((size_t)t->n * 2 + 2) * sizeof(Out))};
        CHECK(job.list);
        list_tensors(&job, target);
        ok = write_file(&job, path, keys, keys_n, k.n, st);
        free(job.list);
    }
    free(keys);
    return ok;
}
