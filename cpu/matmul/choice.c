/* Which provider multiplies what: one for all f32 products and one for all bf16 products, and a table of exceptions by
 * operation and shape, a text file that `r1 bench --tune` makes. A line of it:
 *   avx512 f32 fwd 192 128 onednn
 * instruction set, type, operation (fwd, bwd_x, bwd_w), outputs and inputs of the weight, provider. Lines of other instruction
 * sets are for other machines; `#` begins a comment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/internal.h"

enum { F32_PROVIDERS = 3 };

const char *const cpu_product_names[GEMM_OPS] = {"fwd", "bwd_x", "bwd_w"};

/* Best first; those not built in are left out. */
static int f32_providers(const GemmProvider **out, const KernelTable *kernels)
{
    const GemmProvider *all[F32_PROVIDERS] = {kernels->native, gemm_onednn(), gemm_openblas()};
    int count = 0;
    for (int i = 0; i < F32_PROVIDERS; i++) {
        if (all[i]) {
            out[count++] = all[i];
        }
    }
    return count;
}

const char *cpu_matmul_providers(void)
{
    static char text[64];
    const GemmProvider *all[F32_PROVIDERS];
    int count = f32_providers(all, &cpu_kernels_plain);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        strcat(strcat(text, i ? ", " : ""), all[i]->name);
    }
    return text;
}

/* NULL: unknown. */
static const GemmProvider *provider_named(const Backend *b, DType dtype, const char *name)
{
    const GemmProvider *all[F32_PROVIDERS] = {b->kernels->dot, b->kernels->widen};
    int count = dtype == DTYPE_F32 ? f32_providers(all, b->kernels) : 2;
    for (int i = 0; i < count; i++) {
        if (!strcmp(all[i]->name, name)) return all[i];
    }
    return NULL;
}

static int compare_entries(const void *pa, const void *pb)
{
    const GemmEntry *a = pa, *b = pb;
    if (a->dtype != b->dtype) return a->dtype < b->dtype ? -1 : 1;
    if (a->op != b->op) return a->op < b->op ? -1 : 1;
    if (a->out != b->out) return a->out < b->out ? -1 : 1;
    return a->in < b->in ? -1 : a->in > b->in;
}

/* ---- reading a table */

/* The words of a line, or -1 where it has not the six of an entry; 0: nothing is on it. */
static int entry_words(char *line, char *words[6])
{
    char *comment = strchr(line, '#'), *rest = NULL;
    if (comment) *comment = '\0';
    int n = 0;
    for (char *word = strtok_r(line, " \t\r\n", &rest); word; word = strtok_r(NULL, " \t\r\n", &rest)) {
        if (n == 6) return -1;
        words[n++] = word;
    }
    return n == 0 || n == 6 ? n : -1;
}

static bool read_size(const char *word, size_t *out)
{
    char *end;
    unsigned long n = strtoul(word, &end, 10);
    *out = n;
    return *end == '\0' && n >= 1 && n <= 1u << 30;
}

static bool read_entry(const Backend *b, char *words[6], GemmEntry *e, Status *st)
{
    e->dtype = !strcmp(words[1], dtype_name(DTYPE_BF16)) ? DTYPE_BF16 : DTYPE_F32;
    for (e->op = 0; e->op < GEMM_OPS && strcmp(words[2], cpu_product_names[e->op]); e->op++) continue;
    e->provider = provider_named(b, e->dtype, words[5]);
    if (strcmp(words[1], dtype_name(e->dtype)) || e->op == GEMM_OPS)
        return fail(st, "%s %s is no product; a line says f32 or bf16 and fwd, bwd_x or bwd_w", words[1], words[2]);
    if (!read_size(words[3], &e->out) || !read_size(words[4], &e->in))
        return fail(st, "%s x %s is no shape of a weight; both are whole numbers above 0", words[3], words[4]);
    if (e->provider) return true;
    return fail(st, "%s is not in this build for %s; make the table anew with `r1 bench --tune`", words[5], words[1]);
}

static bool read_line(Backend *b, char *line, Status *st)
{
    GemmChoice *c = &b->gemm;
    GemmEntry e;
    char *words[6];
    int n = entry_words(line, words);
    if (n < 0) return fail(st, "a line has six words, as in \"avx2 f32 fwd 192 128 native\"");
    if (n == 0 || strcmp(words[0], b->kernels->isa)) return true;
    if (!read_entry(b, words, &e, st)) return false;
    if (e.provider == c->by_type[e.dtype]) return true; /* no exception */
    GemmEntry *grown = realloc(c->entries, (c->count + 1) * sizeof *grown);
    CHECK(grown != NULL);
    c->entries = grown;
    grown[c->count++] = e;
    return true;
}

/* FNV-1a of the entries in their order. */
static uint32_t hash_entries(const GemmChoice *c)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < c->count; i++) {
        char text[96];
        const GemmEntry *e = &c->entries[i];
        snprintf(text, sizeof text, "%d %d %zu %zu %s\n", e->dtype, e->op, e->out, e->in, e->provider->name);
        for (const char *p = text; *p; p++) hash = (hash ^ (unsigned char)*p) * 16777619u;
    }
    return hash;
}

static bool read_table(Backend *b, const char *path, Status *st)
{
    GemmChoice *c = &b->gemm;
    FILE *f = fopen(path, "r");
    if (!f && errno == ENOENT)
        return fail(
            st, "matmul \"%s\" is not in this build, nor is it a file; try one of: %s, or a table by `r1 bench --tune`",
            path, cpu_matmul_providers());
    if (!f) return fail(st, "matmul table %s cannot be read: %s", path, strerror(errno));
    char line[256];
    bool ok = true;
    for (int number = 1; ok && fgets(line, sizeof line, f); number++)
        ok = read_line(b, line, st) || fail_prefix(st, "matmul table %s, line %d", path, number);
    fclose(f);
    if (!ok || c->count == 0) return ok;
    qsort(c->entries, c->count, sizeof *c->entries, compare_entries);
    for (size_t i = 1; i < c->count; i++)
        if (!compare_entries(&c->entries[i - 1], &c->entries[i]))
            return fail(st, "matmul table %s names %s %zu x %zu twice", path, cpu_product_names[c->entries[i].op],
                        c->entries[i].out, c->entries[i].in);
    snprintf(c->table, sizeof c->table, "table-%08x", hash_entries(c));
    return true;
}

/* ---- the choice */

static void open_provider(Backend *b, const GemmProvider *p)
{
    GemmChoice *c = &b->gemm;
    for (int i = 0; i < c->opened; i++)
        if (c->open[i] == p) return;
    if (!p->open) return;
    p->open(b);
    CHECK(c->opened < (int)(sizeof c->open / sizeof *c->open));
    c->open[c->opened++] = p;
}

bool gemm_choice_open(Backend *b, const char *matmul, const char *bf16, Status *st)
{
    GemmChoice *c = &b->gemm;
    const KernelTable *k = b->kernels;
    const GemmProvider *named = matmul ? provider_named(b, DTYPE_F32, matmul) : NULL;
    c->by_type[DTYPE_F32] = named ? named : k->native;
    c->by_type[DTYPE_BF16] = bf16 ? provider_named(b, DTYPE_BF16, bf16) : k->dot_is_fast ? k->dot : k->widen;
    if (!c->by_type[DTYPE_BF16]) return fail(st, "bf16 products by \"%s\": try dot or widen", bf16);
    if (matmul && !named && !read_table(b, matmul, st)) return false;
    for (int i = 0; i < 2; i++) open_provider(b, c->by_type[i]);
    for (size_t i = 0; i < c->count; i++) open_provider(b, c->entries[i].provider);
    return true;
}

void gemm_choice_close(Backend *b)
{
    for (int i = 0; i < b->gemm.opened; i++)
        if (b->gemm.open[i]->close) b->gemm.open[i]->close(b);
    free(b->gemm.entries);
}

const GemmProvider *gemm_of(const Backend *b, DType dtype, GemmOp op, size_t out, size_t in)
{
    const GemmChoice *c = &b->gemm;
    if (c->count == 0) return c->by_type[dtype];
    GemmEntry key = {dtype, op, out, in, NULL};
    const GemmEntry *e = bsearch(&key, c->entries, c->count, sizeof key, compare_entries);
    return e ? e->provider : c->by_type[dtype];
}

const char *cpu_matmul_libraries(void)
{
    static char text[96];
    const char *const libraries[] = {onednn_library(), openblas_library()};
    strcpy(text, "native");
    for (int i = 0; i < 2; i++)
        if (libraries[i]) strcat(strcat(text, ", "), libraries[i]);
    return text;
}
