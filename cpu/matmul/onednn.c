/* oneDNN as a matmul provider: its matmul primitive on one thread (seen to give rows that do not depend on their number,
 * which its sgemm does not). The only file that sees dnnl.h. */
#include "cpu/internal.h"
#include "cpu/matmul/blas.h"

#ifdef HAVE_ONEDNN
#include <dnnl.h>
#include <string.h>

enum { SLOTS = 1024 }; /* shapes kept by a thread; a full table starts anew */

typedef struct Shape {
    size_t M, N, K, lda, ldb, ldc;
    size_t ta, tb, add;
} Shape;

typedef struct Slot {
    Shape shape;
    dnnl_primitive_t matmul; /* NULL: free */
    dnnl_memory_t a, b, c;
} Slot;

typedef struct Thread {
    dnnl_stream_t stream;
    size_t used;
    Slot slots[SLOTS];
} Thread;

typedef struct State {
    dnnl_engine_t engine;
    int threads;
    Thread *thread;
} State;

static void slot_free(Slot *s)
{
    if (s->matmul) {
        dnnl_primitive_destroy(s->matmul);
        dnnl_memory_destroy(s->a);
        dnnl_memory_destroy(s->b);
        dnnl_memory_destroy(s->c);
    }
    *s = (Slot){0};
}

static void thread_clear(Thread *t)
{
    for (int i = 0; i < SLOTS; i++) {
        slot_free(&t->slots[i]);
    }
    t->used = 0;
}

static void onednn_close(Backend *b)
{
    State *s = b->onednn;
    for (int i = 0; i < s->threads; i++) {
        thread_clear(&s->thread[i]);
        dnnl_stream_destroy(s->thread[i].stream);
    }
    dnnl_engine_destroy(s->engine);
    free(s->thread);
    free(s);
}

static void onednn_open(Backend *b)
{
    /* Outside a team of ours the library would start its own: its thread count is OpenMP's default, which we never use. */
    omp_set_num_threads(1);
    State *s = calloc(1, sizeof *s);
    CHECK(s);
    s->thread = calloc((size_t)b->threads, sizeof(Thread));
    CHECK(s->thread && dnnl_engine_create(&s->engine, dnnl_cpu, 0) == dnnl_success);
    for (; s->threads < b->threads; s->threads++) {
        CHECK(dnnl_stream_create(&s->thread[s->threads].stream, s->engine, dnnl_stream_default_flags) == dnnl_success);
    }
    b->onednn = s;
}

static dnnl_status_t matrix(dnnl_memory_desc_t *md, size_t rows, size_t cols, size_t ld, bool transposed)
{
    dnnl_dims_t dims = {(dnnl_dim_t)rows, (dnnl_dim_t)cols};
    dnnl_dims_t strides = {transposed ? 1 : (dnnl_dim_t)ld, transposed ? (dnnl_dim_t)ld : 1};
    return dnnl_memory_desc_init_by_strides(md, 2, dims, dnnl_f32, strides);
}

static dnnl_status_t create_matmul(dnnl_primitive_t *out, const dnnl_matmul_desc_t *desc, bool add,
                                   dnnl_engine_t engine)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t sum = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_status_t status = dnnl_primitive_attr_create(&attr);
    if (status == dnnl_success && add) {
        status = dnnl_post_ops_create(&sum);
        status = status == dnnl_success ? dnnl_post_ops_append_sum(sum, 1.0f) : status;
        status = status == dnnl_success ? dnnl_primitive_attr_set_post_ops(attr, sum) : status;
    }
    status = status == dnnl_success ? dnnl_primitive_desc_create(&pd, desc, attr, engine, NULL) : status;
    status = status == dnnl_success ? dnnl_primitive_create(out, pd) : status;
    dnnl_primitive_desc_destroy(pd);
    dnnl_post_ops_destroy(sum);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

static dnnl_status_t slot_make(Slot *slot, const Shape *s, dnnl_engine_t engine)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t desc;
    dnnl_status_t status = matrix(&a, s->M, s->K, s->lda, s->ta);
    status = status == dnnl_success ? matrix(&b, s->K, s->N, s->ldb, s->tb) : status;
    status = status == dnnl_success ? matrix(&c, s->M, s->N, s->ldc, false) : status;
    status = status == dnnl_success ? dnnl_matmul_desc_init(&desc, &a, &b, NULL, &c) : status;
    status = status == dnnl_success ? dnnl_memory_create(&slot->a, &a, engine, DNNL_MEMORY_NONE) : status;
    status = status == dnnl_success ? dnnl_memory_create(&slot->b, &b, engine, DNNL_MEMORY_NONE) : status;
    status = status == dnnl_success ? dnnl_memory_create(&slot->c, &c, engine, DNNL_MEMORY_NONE) : status;
    status = status == dnnl_success ? create_matmul(&slot->matmul, &desc, s->add, engine) : status;
    slot->shape = *s;
    return status;
}

static Slot *slot_of(Thread *t, const Shape *shape)
{
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *shape / sizeof(size_t); i++) {
        hash = (hash ^ ((const size_t *)shape)[i]) * 1099511628211u;
    }
    size_t at = (size_t)(hash >> 32) % SLOTS;
    while (t->slots[at].matmul && memcmp(&t->slots[at].shape, shape, sizeof *shape) != 0) {
        at = (at + 1) % SLOTS;
    }
    return &t->slots[at];
}

static dnnl_status_t run(State *s, Thread *t, const Shape *shape, const float *a, const float *b, float *c)
{
    Slot *slot = slot_of(t, shape);
    dnnl_status_t status = dnnl_success;
    if (!slot->matmul) {
        if (++t->used > SLOTS / 2) {
            thread_clear(t);
            t->used = 1;
            slot = slot_of(t, shape);
        }
        status = slot_make(slot, shape, s->engine);
    }
    status = status == dnnl_success ? dnnl_memory_set_data_handle(slot->a, (void *)a) : status;
    status = status == dnnl_success ? dnnl_memory_set_data_handle(slot->b, (void *)b) : status;
    status = status == dnnl_success ? dnnl_memory_set_data_handle(slot->c, c) : status;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, slot->a}, {DNNL_ARG_WEIGHTS, slot->b}, {DNNL_ARG_DST, slot->c}};
    status = status == dnnl_success ? dnnl_primitive_execute(slot->matmul, t->stream, 3, args) : status;
    return status == dnnl_success ? dnnl_stream_wait(t->stream) : status;
}

static void onednn_sgemm(Backend *b, int thread, Mat c, Mat x, bool tx, Mat y, bool ty, bool add)
{
    if (c.rows == 0 || c.cols == 0) {
        return;
    }
    State *s = b->onednn;
    Shape shape = {c.rows, c.cols, tx ? x.rows : x.cols, x.stride, y.stride, c.stride, tx, ty, add};
    dnnl_status_t status = run(s, &s->thread[thread], &shape, x.p, y.p, c.p);
    if (status != dnnl_success) {
#pragma omp critical(cpu_fault)
        fail(&b->fault, "oneDNN: a matmul of %zu x %zu x %zu failed with status %d; try --matmul native", shape.M,
             shape.N, shape.K, (int)status);
    }
}

BLAS_PROVIDER(onednn, onednn_open, onednn_close)
#endif

const GemmProvider *gemm_onednn(void)
{
#ifdef HAVE_ONEDNN
    return &provider;
#else
    return NULL;
#endif
}

const char *onednn_library(void)
{
#ifdef HAVE_ONEDNN
    static char text[32];
    const dnnl_version_t *v = dnnl_version();
    snprintf(text, sizeof text, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    return text;
#else
    return NULL;
#endif
}
