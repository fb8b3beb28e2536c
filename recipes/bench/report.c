/* What `r1 bench` prints: a table for people, one object for programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "data/json.h"
#include "recipes/bench/bench.h"

static const char *bound_name(Bound b)
{
    static const char *const names[] = {"flop", "read", "copy"};
    return names[b];
}

static void today(char *out, size_t size)
{
    time_t now = time(NULL);
    struct tm t;
    strftime(out, size, "%Y-%m-%d", localtime_r(&now, &t));
}

void bench_print_machine(const Bench *b)
{
    char date[16];
    today(date, sizeof date);
    if (b->machine.cpu) printf("%s, %d threads, %s\n", b->limits.name, cpu_threads(b->backend), date);
    else printf("%s, %s\n", b->limits.name, date);
    printf("%s\n", b->machine.ops->describe(b->machine.backend));
    printf("peaks: %.0f GFLOP/s f32, %.0f bf16, %.1f GB/s read, %.1f GB/s copy (probed again between the rows)\n\n",
           b->peaks.flops[DTYPE_F32] / 1e9, b->peaks.flops[DTYPE_BF16] / 1e9, b->peaks.read / 1e9, b->peaks.copy / 1e9);
    printf("%-28s %10s %12s %9s %8s %7s %6s %6s\n", "row", "seconds", "tokens/s", "GFLOP/s", "GB/s", "% peak", "bound",
           "share");
}

static void print_number(int width, int decimals, double v)
{
    if (v > 0) printf(" %*.*f", width, decimals, v);
    else printf(" %*s", width, "-");
}

void bench_print_row(const Bench *b, const BenchRow *r)
{
    (void)b;
    const char *slash = strchr(r->name, '/');
    bool op = r->share >= 0 && slash;
    if (op && r->share < 0.005) return;
    printf("%s%-*s", op ? "  " : "", op ? 26 : 28, op ? slash + 1 : r->name);
    print_number(10, 4, r->seconds);
    print_number(12, 0, r->tokens / r->seconds);
    print_number(9, 1, r->flops / r->seconds / 1e9);
    print_number(8, 1, r->bytes / r->seconds / 1e9);
    printf(" %7.1f %6s", r->percent, bound_name(r->bound));
    if (op) printf(" %5.1f%%", 100 * r->share);
    printf("\n");
    fflush(stdout);
}

/* Models whose caches differ most, and the one of the sweep. */
static const char *const cached_models[] = {"tiny", "small", "lite1", "deepseek-v2-lite", "deepseek-v3"};
enum { CACHED_MODELS = sizeof cached_models / sizeof *cached_models };

void bench_print_memory(void)
{
    printf("\n%-28s %14s %14s %7s\n", "cache in f32, bytes a token", "exact", "latent", "ratio");
    for (int i = 0; i < CACHED_MODELS; i++) {
        ModelConfig c;
        if (!bench_model(cached_models[i], &c)) continue;
        size_t exact = kv_cache_token_bytes(&c, CACHE_EXACT, DTYPE_F32);
        size_t latent = kv_cache_token_bytes(&c, CACHE_LATENT, DTYPE_F32);
        printf("%-28s %14zu %14zu %6.1fx\n", cached_models[i], exact, latent, (double)exact / (double)latent);
    }
}

static Json *number_or_null(double v)
{
    return v > 0 ? json_new_number(v) : json_new_null();
}

static Json *machine_json(const Bench *b)
{
    char date[16];
    today(date, sizeof date);
    Json *o = json_new_object();
    json_set(o, b->machine.cpu ? "cpu" : "gpu", json_new_text(b->limits.name));
    if (b->machine.cpu) json_set(o, "threads", json_new_int(cpu_threads(b->backend)));
    if (b->limits.emulated) json_set(o, "emulated", json_new_text("times mean nothing"));
    json_set(o, "backend", json_new_text(b->machine.ops->describe(b->machine.backend)));
    json_set(o, "kind", json_new_text(b->machine.ops->machine_kind(b->machine.backend)));
    json_set(o, "memory_gb", json_new_number((double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1e9));
    json_set(o, "date", json_new_text(date));
    json_set(o, "peak_gflops_f32", json_new_number(b->peaks.flops[DTYPE_F32] / 1e9));
    json_set(o, "peak_gflops_bf16", json_new_number(b->peaks.flops[DTYPE_BF16] / 1e9));
    json_set(o, "read_gb_per_s", json_new_number(b->peaks.read / 1e9));
    json_set(o, "copy_gb_per_s", json_new_number(b->peaks.copy / 1e9));
    return o;
}

static Json *row_json(const BenchRow *r)
{
    Json *o = json_new_object();
    json_set(o, "name", json_new_text(r->name));
    json_set(o, "tokens_per_s", number_or_null(r->tokens / r->seconds));
    json_set(o, "gflops", number_or_null(r->flops / r->seconds / 1e9));
    json_set(o, "gb_per_s", number_or_null(r->bytes / r->seconds / 1e9));
    json_set(o, "percent_of_peak", json_new_number(r->percent));
    json_set(o, "bound", json_new_text(bound_name(r->bound)));
    json_set(o, "seconds", json_new_number(r->seconds));
    if (r->share >= 0) json_set(o, "share", json_new_number(r->share));
    return o;
}

static Json *memory_json(void)
{
    Json *list = json_new_array();
    for (int i = 0; i < CACHED_MODELS; i++) {
        ModelConfig c;
        if (!bench_model(cached_models[i], &c)) continue;
        Json *o = json_new_object();
        json_set(o, "model", json_new_text(cached_models[i]));
        json_set(o, "exact_bytes_per_token", json_new_int((int64_t)kv_cache_token_bytes(&c, CACHE_EXACT, DTYPE_F32)));
        json_set(o, "latent_bytes_per_token", json_new_int((int64_t)kv_cache_token_bytes(&c, CACHE_LATENT, DTYPE_F32)));
        json_append(list, o);
    }
    return list;
}

void bench_print_json(const Bench *b)
{
    Json *o = json_new_object(), *rows = json_new_array();
    for (int i = 0; i < b->n; i++) json_append(rows, row_json(&b->rows[i]));
    json_set(o, "machine", machine_json(b));
    json_set(o, "rows", rows);
    json_set(o, "cache", memory_json());
    char *text = json_write(o, false);
    puts(text);
    free(text);
    json_free(o);
}
