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

/* The pages of one sequence, whose last row is at position `last`, as seen by key head h; the heads up to `end` are read
 * after it. */
typedef struct PageKeys {
    const CacheLayer *cache;
    const int32_t *pages;
    AttentionShape s;
    int last, h, end;
} PageKeys;

static KeyTile tile_of(const PageKeys *p, int h, int i)
{
    Row page = page_of(p->cache, p->pages[i]);
    size_t rope_head = p->cache->rope_shared ? 0 : (size_t)h;
    return (KeyTile){row_from(page, (size_t)h * p->s.Dn * KEY_TILE),
                     row_from(page, p->cache->rope_at + rope_head * p->s.Dr * KEY_TILE),
                     row_from(page, p->cache->v_at + (size_t)h * KEY_TILE * p->s.Dv), (size_t)p->s.Dv, p->s.Dv};
}

/* The first `used` values of each of `rows` rows, `row` values apart. */
static void fetch_rows(Row x, int rows, size_t row, int used)
{
    int line = (int)(64 / dtype_size(x.dtype));
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < used; j += line) __builtin_prefetch(row_from(x, (size_t)r * row + (size_t)j).p);
}

/* Asks memory for a tile's keys and values. Attending takes them in an order that the processor does not foresee. */
static void fetch_tile(const PageKeys *p, int h, int i)
{
    KeyTile t = tile_of(p, h, i);
    int keys = min_int(KEY_TILE, p->last + 1 - i * KEY_TILE);
    fetch_rows(t.k, p->s.Dn, KEY_TILE, keys);
    fetch_rows(t.k_rope, p->s.Dr, KEY_TILE, keys);
    fetch_rows(t.v, 1, 0, keys * p->s.Dv);
}

/* While one tile is attended to, the next is prefetched. */
static KeyTile page_tile(void *from, int i)
{
    const PageKeys *p = from;
    if (i < p->last / KEY_TILE) fetch_tile(p, p->h, i + 1);
    else if (p->h + 1 < p->end) fetch_tile(p, p->h + 1, 0);
    return tile_of(p, p->h, i);
}

/* Rows [group.first, group.first + group.count) belong to one sequence; key head h of them. */
static void attend_group(Backend *b, int thread, AttentionShape s, HeadView o, HeadView q, PageKeys *keys,
                         const CacheRow *rows, RowGroup group)
{
    int share = s.H / s.Hkv, all = group.count * share;
    ArenaMark mark = cpu_mark(b, thread);
    float *work = cpu_scratch(b, thread, panel_work(s));
    for (int first = 0; first < all; first += PANEL_ROWS) {
        QueryPanel panel;
        panel.rows = min_int(PANEL_ROWS, all - first);
        for (int r = 0; r < panel.rows; r++) {
            int n = group.first + (first + r) / share, head = keys->h * share + (first + r) % share;
            panel.pos[r] = rows[n].pos;
            panel.q[r] = head_at(q, (size_t)n, head);
            panel.q_rope[r] = row_from(panel.q[r], (size_t)s.Dn);
            panel.o[r] = head_at(o, (size_t)n, head);
            panel.lse[r] = NULL;
        }
        panel_attend(&panel, s, page_tile, keys, work);
    }
    cpu_release(b, thread, mark);
}

void cpu_attention_cached(Backend *b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows,
                          int n)
{
    CHECK(s.Hkv > 0 && s.H % s.Hkv == 0);
    ArenaMark mark = cpu_mark(b, 0);
    RowGroups groups = group_rows(b, rows, n, panel_positions(s.H / s.Hkv));
    int team = cpu_team(b, groups.positions * s.H * (s.Dn + s.Dr + s.Dv));
    int heads = groups.count >= 8 * team ? s.Hkv : 1, cuts = s.Hkv / heads; /* key heads of one item */
#pragma omp parallel for num_threads(team) schedule(dynamic, 1)
    for (int i = 0; i < groups.count * cuts; i++) {
        RowGroup group = groups.at[i / cuts];
        int h = i % cuts * heads;
        PageKeys keys = {&cache,   cache.pages + rows[group.first].at, s, rows[group.first + group.count - 1].pos, h,
                         h + heads};
        fetch_tile(&keys, h, 0);
        for (; keys.h < keys.end; keys.h++) attend_group(b, omp_get_thread_num(), s, o, q, &keys, rows, group);
    }
    cpu_release(b, 0, mark);
}
