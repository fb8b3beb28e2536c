#include "tests/unit/far_backend.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/check.h"

enum { REGIONS = 64, HOSTS = 16, LATER = 64 };

/* Addresses, the first `used` bytes of which hold something. */
typedef struct Region {
    char *at;
    size_t bytes, used;
} Region;

/* A download that nobody has waited for. */
typedef struct Later {
    uint64_t ticket;
    void *to;
    const void *from;
    size_t bytes;
} Later;

typedef struct Far {
    Ops table;
    const Ops *ops;
    Backend *inner;
    Region regions[REGIONS];
    int n;
    void *hosts[HOSTS]; /* of host_new; NULL: free */
    Later later[LATER];
    int n_later;
    uint64_t downloads;
} Far;

static Far *of(const Backend *b)
{
    return (Far *)(uintptr_t)b;
}

static size_t pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

static void protect(Far *f, int what)
{
    for (int i = 0; i < f->n; i++)
        if (f->regions[i].used) CHECK(mprotect(f->regions[i].at, f->regions[i].used, what) == 0);
}

static void reveal(Far *f)
{
    protect(f, PROT_READ | PROT_WRITE);
}

static void hide(Far *f)
{
    protect(f, PROT_NONE);
}

/* ---- Memory ---- */

static Region *region_new(Far *f, size_t bytes)
{
    CHECK(f->n < REGIONS);
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    f->regions[f->n] = (Region){.at = p, .bytes = bytes};
    return &f->regions[f->n++];
}

static Region *region_at(Far *f, const void *p)
{
    for (int i = 0; i < f->n; i++)
        if (f->regions[i].at == p) return &f->regions[i];
    CHECK(!"a block of this backend");
    return NULL;
}

static void *far_alloc(Backend *b, size_t bytes)
{
    Region *r = region_new(of(b), pages(bytes ? bytes : 1));
    if (!r) return NULL;
    r->used = r->bytes;
    reveal(of(b));
    memset(r->at, 0xff, r->used); /* NaN in f32 and bf16 */
    hide(of(b));
    return r->at;
}

static void far_free(Backend *b, void *block)
{
    if (!block) return;
    Region *r = region_at(of(b), block);
    munmap(r->at, r->bytes);
    *r = of(b)->regions[--of(b)->n];
}

static void *far_range_open(Backend *b, size_t bytes)
{
    Region *r = region_new(of(b), pages(bytes));
    return r ? r->at : NULL;
}

static bool far_range_use(Backend *b, void *range, size_t upto)
{
    region_at(of(b), range)->used = pages(upto);
    return true;
}

static void far_range_close(Backend *b, void *range, size_t bytes)
{
    (void)bytes;
    far_free(b, range);
}

/* What an arena gives out holds nothing that could be taken for a number. */
static void far_note(Backend *b, const void *p, size_t bytes)
{
    if (!bytes) return;
    reveal(of(b));
    memset((void *)(uintptr_t)p, 0xff, bytes);
    hide(of(b));
}

static bool is_far(const Far *f, const void *p)
{
    for (int i = 0; i < f->n; i++)
        if ((const char *)p >= f->regions[i].at && (const char *)p < f->regions[i].at + f->regions[i].used) return true;
    return false;
}

static void copy(Backend *b, void *to, const void *from, size_t bytes, bool to_far, bool from_far)
{
    CHECK(is_far(of(b), to) == to_far && is_far(of(b), from) == from_far);
    reveal(of(b));
    memcpy(to, from, bytes);
    hide(of(b));
}

static void far_upload(Backend *b, void *to, const void *from, size_t bytes)
{
    copy(b, to, from, bytes, true, false);
}

static void far_download(Backend *b, void *to, const void *from, size_t bytes)
{
    copy(b, to, from, bytes, false, true);
}

static void far_device_copy(Backend *b, void *to, const void *from, size_t bytes)
{
    copy(b, to, from, bytes, true, true);
}

/* Host memory for downloads, its size in front of it. */
static void *far_host_new(Backend *b, size_t bytes)
{
    size_t *p = malloc(64 + bytes);
    if (!p) return NULL;
    *p = bytes;
    for (int i = 0; i < HOSTS; i++)
        if (!of(b)->hosts[i]) return of(b)->hosts[i] = (char *)p + 64;
    CHECK(!"more blocks than that");
    return NULL;
}

static void far_wait(Backend *b, uint64_t ticket)
{
    Far *f = of(b);
    int left = 0;
    CHECK(ticket <= f->downloads);
    for (int i = 0; i < f->n_later; i++) {
        Later l = f->later[i];
        if (ticket && l.ticket > ticket) f->later[left++] = l;
        else copy(b, l.to, l.from, l.bytes, false, true);
    }
    f->n_later = left;
}

static void far_host_free(Backend *b, void *p)
{
    if (!p) return;
    far_wait(b, 0);
    for (int i = 0; i < HOSTS; i++)
        if (of(b)->hosts[i] == p) {
            of(b)->hosts[i] = NULL;
            free((char *)p - 64);
            return;
        }
    CHECK(!"memory of host_new");
}

static bool is_landing(const Far *f, const char *p, size_t bytes)
{
    for (int i = 0; i < HOSTS; i++) {
        const char *at = f->hosts[i];
        if (at && p >= at && p + bytes <= at + *(const size_t *)(const void *)(at - 64)) return true;
    }
    return false;
}

/* Delivered as late as can be, when it is waited for, from what lies there then; until then the host finds NaN. */
static uint64_t far_download_later(Backend *b, void *to, const void *from, size_t bytes)
{
    Far *f = of(b);
    CHECK(is_landing(f, to, bytes) && is_far(f, from) && f->n_later < LATER);
    memset(to, 0xff, bytes);
    f->later[f->n_later++] = (Later){++f->downloads, to, from, bytes};
    return f->downloads;
}

/* ---- Ops ---- */

/* What an op is given must lie here: a pointer to the process's memory would be read on this machine, and on no other
 * device. */
static void check_pointer(const Far *f, const void *p)
{
    CHECK(!p || is_far(f, p));
}

static void check_mat(const Far *f, Mat m)
{
    if (m.rows && m.cols) check_pointer(f, m.p);
}

/* An array of views is the host's, what they see is not. */
static void check_mats(const Far *f, const Mat *m)
{
    if (m) check_mat(f, *m);
}

static void check_view(const Far *f, HeadView v)
{
    check_pointer(f, v.p);
}

static void check_inputs(const Far *f, AttentionInputs in)
{
    check_view(f, in.q), check_view(f, in.k), check_view(f, in.k_rope), check_view(f, in.v);
}

static void check_cache(const Far *f, CacheLayer c)
{
    check_pointer(f, c.base), check_pointer(f, c.pages);
}

static void check_rope(const Far *f, RopeArgs a)
{
    check_pointer(f, a.cos), check_pointer(f, a.sin);
}

static void check_norm(const Far *f, HeadNorm n)
{
    check_pointer(f, n.w);
}

static void check_grads(const Far *f, HeadGrads g)
{
    check_pointer(f, g.dlp), check_pointer(f, g.dentropy), check_pointer(f, g.entropy);
    check_pointer(f, g.dkl), check_pointer(f, g.kl);
}

static void check_stats(const Far *f, HeadStats s)
{
    check_pointer(f, s.lp), check_pointer(f, s.entropy), check_pointer(f, s.kl);
}

static void check_maxima(const Far *f, HeadMaxima m)
{
    check_pointer(f, m.logits), check_pointer(f, m.ref);
}

static void check_sums(const Far *f, BalanceSums s)
{
    check_pointer(f, s.score), check_pointer(f, s.count), check_pointer(f, s.reached);
}

static void check_slopes(const Far *f, BalanceSlopes s)
{
    check_pointer(f, s.slope), check_pointer(f, s.frequency);
}

static void no_pointer(const Far *f, ...)
{
    (void)f;
}

/* clang-format off */
#define CHECK_ARGUMENT(x)                                                                                              \
    _Generic((x), Mat: check_mat, HeadView: check_view, AttentionInputs: check_inputs, CacheLayer: check_cache,        \
             RopeArgs: check_rope, HeadNorm: check_norm, HeadGrads: check_grads, HeadStats: check_stats,               \
             HeadMaxima: check_maxima, BalanceSums: check_sums,                                                        \
             BalanceSlopes: check_slopes, const Mat *: check_mats, float *: check_pointer,                             \
             const float *: check_pointer, int32_t *: check_pointer, const int32_t *: check_pointer,                   \
             double *: check_pointer, const CacheRow *: check_pointer, default: no_pointer)(f_, x);
#define CHECK_1(a)      CHECK_ARGUMENT(a)
#define CHECK_2(a, ...) CHECK_ARGUMENT(a) CHECK_1(__VA_ARGS__)
#define CHECK_3(a, ...) CHECK_ARGUMENT(a) CHECK_2(__VA_ARGS__)
#define CHECK_4(a, ...) CHECK_ARGUMENT(a) CHECK_3(__VA_ARGS__)
#define CHECK_5(a, ...) CHECK_ARGUMENT(a) CHECK_4(__VA_ARGS__)
#define CHECK_6(a, ...) CHECK_ARGUMENT(a) CHECK_5(__VA_ARGS__)
#define CHECK_7(a, ...) CHECK_ARGUMENT(a) CHECK_6(__VA_ARGS__)
#define CHECK_8(a, ...) CHECK_ARGUMENT(a) CHECK_7(__VA_ARGS__)
#define CHECK_OF(_1, _2, _3, _4, _5, _6, _7, _8, name, ...) name
/* The arguments behind the backend. */
#define CHECK_ALL(b, ...)                                                                                              \
    CHECK_OF(__VA_ARGS__, CHECK_8, CHECK_7, CHECK_6, CHECK_5, CHECK_4, CHECK_3, CHECK_2, CHECK_1, none)(__VA_ARGS__)
/* clang-format on */

#define OP(op, parameters, arguments, cost)                                                                            \
    static void far_##op parameters                                                                                    \
    {                                                                                                                  \
        Far *f_ = of(b);                                                                                               \
        b = f_->inner;                                                                                                 \
        CHECK_ALL arguments reveal(f_);                                                                                \
        f_->ops->op arguments;                                                                                         \
        hide(f_);                                                                                                      \
    }
#include "core/ops/op_costs_list.h"
#undef OP

static const char *far_describe(const Backend *b)
{
    return of(b)->ops->describe(of(b)->inner);
}

static const char *far_machine_kind(const Backend *b)
{
    return of(b)->ops->machine_kind(of(b)->inner);
}

static bool far_rows_independent(const Backend *b)
{
    return of(b)->ops->rows_independent(of(b)->inner);
}

static bool far_fault(Backend *b, Status *st)
{
    return of(b)->ops->fault(of(b)->inner, st);
}

static void far_weights_changed(Backend *b)
{
    of(b)->ops->weights_changed(of(b)->inner);
}

static void far_weights_freed(Backend *b)
{
    of(b)->ops->weights_freed(of(b)->inner);
}

static bool far_keep_packed(Backend *b, bool keep)
{
    return of(b)->ops->keep_packed(of(b)->inner, keep);
}

static size_t far_bytes(const Backend *b)
{
    return of(b)->ops->bytes(of(b)->inner);
}

static void far_close(Backend *b)
{
    CHECK_EQ(of(b)->n, 0); /* everything was given back */
    for (int i = 0; i < HOSTS; i++) CHECK(!of(b)->hosts[i]);
    of(b)->ops->close(of(b)->inner);
    free(of(b));
}

void far_open(const Ops **ops, Backend **b, size_t slice_rows)
{
    Far *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    f->ops = *ops;
    f->inner = *b;
    f->table.abi = OPS_ABI;
    f->table.device = (Device){.slice_rows = slice_rows,
                               .in_flight = 2,
                               .alloc = far_alloc,
                               .free = far_free,
                               .range_open = far_range_open,
                               .range_use = far_range_use,
                               .range_close = far_range_close,
                               .note = far_note,
                               .upload = far_upload,
                               .download = far_download,
                               .copy = far_device_copy,
                               .download_later = far_download_later,
                               .wait = far_wait,
                               .host_new = far_host_new,
                               .host_free = far_host_free};
#define USE(op) f->table.op = far_##op;
    OPS_BACKEND(USE)
    OPS_COMPUTE(USE)
#undef USE
#define USE_FUSED(op)                                                                                                  \
    if (f->ops->op) f->table.op = far_##op;
    OPS_FUSED(USE_FUSED)
#undef USE_FUSED
    *ops = &f->table;
    *b = (Backend *)f;
}
