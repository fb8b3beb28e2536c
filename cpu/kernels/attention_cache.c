/* cache_write, attention_cached: contract in core/ops/ops.h. A page of the cache is a key tile of training's forward, so a
 * decoded row has the bits of the trained one. */
#include "cpu/internal.h"
#include "cpu/kernels/tiles/attention_pack.h"
#include "cpu/kernels/tiles/attention_rows.h"
#include "cpu/kernels/tiles/attention_tile.h"

/* dst[d * KEY_TILE] = src[d] */
static void write_column(Row dst, Row src, int D)
{
    float lanes[VEC];
    uint16_t halves[VEC];
    for (int d = 0; d < D; d += VEC) {
        v16 values = any_load(src, (size_t)d, row_lanes((size_t)(D - d)));
        v16_store(lanes, values);
        if (dst.dtype == DTYPE_BF16) v16_store_bf16(halves, values);
        for (int i = 0; i < VEC && d + i < D; i++) {
            size_t at = (size_t)(d + i) * KEY_TILE;
            if (dst.dtype == DTYPE_BF16) ((uint16_t *)dst.p)[at] = halves[i];
            else ((float *)dst.p)[at] = lanes[i];
        }
    }
}

static void write_rows(AttentionShape s, CacheLayer cache, const CacheRow *rows, int n, AttentionInputs in)
{
    int rope_heads = cache.rope_shared ? 1 : s.Hkv;
#pragma omp for nowait
    for (int r = 0; r < n; r++) {
        size_t lane = (size_t)rows[r].pos % KEY_TILE, row = (size_t)r;
        Row page = page_of(&cache, cache.pages[rows[r].at + rows[r].pos / KEY_TILE]);
        for (int h = 0; h < s.Hkv && s.Dn; h++)
            write_column(row_from(page, (size_t)h * s.Dn * KEY_TILE + lane), head_at(in.k, row, h), s.Dn);
        for (int h = 0; h < rope_heads && s.Dr; h++)
            write_column(row_from(page, cache.rope_at + (size_t)h * s.Dr * KEY_TILE + lane), head_at(in.k_rope, row, h),
                         s.Dr);
        for (int h = 0; h < s.Hkv; h++)
            copy_row(row_from(page, cache.v_at + ((size_t)h * KEY_TILE + lane) * s.Dv), head_at(in.v, row, h),
                     (size_t)s.Dv);
    }
}

void cpu_cache_write(Backend *b, AttentionShape s, CacheLayer cache, const CacheRow *rows, int n, AttentionInputs in)
{
    ON_TEAM(cpu_team(b, (double)n * s.Hkv * (s.Dn + s.Dr + s.Dv)), write_rows(s, cache, rows, n, in));
}

/* The pages of one sequence as seen by the key heads from h on. rows_are_heads: the rows of a panel are key heads
 * h, h + 1, ... of one position; else all of them see key head h. */
typedef struct PageKeys {
    const CacheLayer *cache;
    const int32_t *pages;
    AttentionShape s;
    int h, last;
    bool rows_are_heads;
} PageKeys;

/* A page of one layer is one run of memory, which is asked for while the page before is attended to. */
static void fetch_page(const PageKeys *p, int i)
{
    Row page = page_of(p->cache, p->pages[i]);
    size_t bytes = (p->cache->v_at + (size_t)p->s.Hkv * KEY_TILE * (size_t)p->s.Dv) * dtype_size(page.dtype);
    for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)page.p + at);
}

static KeyTile page_tile(void *from, int i)
{
    const PageKeys *p = from;
    if (p->rows_are_heads && i < p->last / KEY_TILE) fetch_page(p, i + 1);
    Row page = page_of(p->cache, p->pages[i]);
    size_t k = (size_t)p->s.Dn * KEY_TILE, rope = p->cache->rope_shared ? 0 : (size_t)p->s.Dr * KEY_TILE,
           v = (size_t)p->s.Dv * KEY_TILE, h = (size_t)p->h, step = p->rows_are_heads;
    return (KeyTile){.k = row_from(page, h * k),
                     .k_rope = row_from(page, p->cache->rope_at + h * rope),
                     .v = row_from(page, p->cache->v_at + h * v),
                     .v_row = (size_t)p->s.Dv,
                     .v_width = p->s.Dv,
                     .k_apart = step * k,
                     .rope_apart = step * rope,
                     .v_apart = step * v};
}

typedef struct CachedCall {
    Backend *b;
    AttentionShape s;
    HeadView o, q;
    const CacheLayer *cache;
    const CacheRow *rows;
} CachedCall;

/* `count` (row, query head) pairs of a group that begin with pair `first`, the heads of a row side by side from query head
 * `head` on, `heads` of them a row. */
static void attend_pairs(const CachedCall *c, RowGroup group, int head, int heads, int first, int count, PageKeys *keys,
                         float *work)
{
    QueryPanel panel = {.rows = count};
    for (int r = 0; r < count; r++) {
        int n = group.first + (first + r) / heads, at = head + (first + r) % heads;
        panel.pos[r] = c->rows[n].pos;
        panel.q[r] = head_at(c->q, (size_t)n, at);
        panel.q_rope[r] = row_from(panel.q[r], (size_t)c->s.Dn);
        panel.o[r] = head_at(c->o, (size_t)n, at);
        panel.lse[r] = NULL;
    }
    panel_attend(&panel, c->s, page_tile, keys, work);
}

/* Key heads [from, to) for the rows of one group. A lone row with one query head a key head takes its heads as the rows of
 * a panel: a page is walked once, and a block has a chain of FMAs a head, not one. */
static void attend_group(const CachedCall *c, int thread, RowGroup group, int from, int to)
{
    int share = c->s.H / c->s.Hkv, all = group.count * share;
    ArenaMark mark = cpu_mark(c->b, thread);
    float *work = cpu_scratch(c->b, thread, panel_work(c->s));
    PageKeys keys = {c->cache, c->cache->pages + c->rows[group.first].at, c->s, from, c->rows[group.first].pos,
                     all == 1};
    if (keys.rows_are_heads)
        for (; keys.h < to; keys.h += PANEL_ROWS)
            attend_pairs(c, group, keys.h, c->s.H, 0, min_int(PANEL_ROWS, to - keys.h), &keys, work);
    else
        for (; keys.h < to; keys.h++)
            for (int first = 0; first < all; first += PANEL_ROWS)
                attend_pairs(c, group, keys.h * share, share, first, min_int(PANEL_ROWS, all - first), &keys, work);
    cpu_release(c->b, thread, mark);
}

void cpu_attention_cached(Backend *b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows,
                          int n)
{
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    CachedCall call = {b, s, o, q, &cache, rows};
    ArenaMark mark = cpu_mark(b, 0);
    RowGroups groups = group_rows(b, rows, n, panel_positions(s.H / s.Hkv));
    int team = cpu_team(b, groups.positions * s.H * (s.Dn + s.Dr + s.Dv));
    int heads = groups.count >= 8 * team ? s.Hkv : 1, cuts = s.Hkv / heads; /* key heads of one item */
#pragma omp parallel for num_threads(team) schedule(dynamic, 1)
    for (int i = 0; i < groups.count * cuts; i++) {
        int h = i % cuts * heads;
        attend_group(&call, omp_get_thread_num(), groups.at[i / cuts], h, h + heads);
    }
    cpu_release(b, 0, mark);
}
