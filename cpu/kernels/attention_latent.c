/* latent_write, attention_latent: contract in ops.h. Absorbed form: a page holds rows of [c^KV | k^R], transposed into a key
 * tile once for all heads; its first columns are the values too. */
#include "cpu/internal.h"
#include "cpu/kernels/tiles/attention_pack.h"
#include "cpu/kernels/tiles/attention_rows.h"
#include "cpu/kernels/tiles/attention_tile.h"

static void write_latents(CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr)
{
    size_t R = z.cols, width = R + (size_t)Dr;
#pragma omp for nowait
    for (int r = 0; r < n; r++) {
        Row page = page_of(&cache, cache.pages[rows[r].at + rows[r].pos / KEY_TILE]);
        size_t at = (size_t)(rows[r].pos % KEY_TILE) * width;
        copy_row(row_from(page, at), row_of(z, (size_t)r), R);
        copy_row(row_from(page, at + R), head_at(k_rope, (size_t)r, 0), (size_t)Dr);
    }
}

void cpu_latent_write(Backend *b, CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr)
{
    ON_TEAM(cpu_team(b, (double)n * ((double)z.cols + Dr)), write_latents(cache, rows, n, z, k_rope, Dr));
}

/* The pages of one sequence, transposed tile by tile into keys with positions in the lanes. */
typedef struct LatentKeys {
    const CacheLayer *cache;
    const int32_t *pages;
    float *transposed; /* [Rkv + Dr][KEY_TILE] */
    int positions, Rkv, Dr;
} LatentKeys;

static KeyTile latent_tile(void *from, int i)
{
    const LatentKeys *p = from;
    int width = p->Rkv + p->Dr;
    Row page = page_of(p->cache, p->pages[i]);
    pack_columns(p->transposed, page, (size_t)width, min_int(KEY_TILE, p->positions - i * KEY_TILE), width);
    return (KeyTile){.k = f32_row(p->transposed),
                     .k_rope = f32_row(p->transposed + (size_t)p->Rkv * KEY_TILE),
                     .v = page,
                     .v_row = (size_t)width,
                     .v_width = p->Rkv};
}

typedef struct LatentCall {
    Backend *b;
    AttentionShape s; /* of the absorbed form: keys Rkv + Dr, values Rkv */
    HeadView u, qz, q_rope;
    const CacheLayer *cache;
    const CacheRow *rows;
} LatentCall;

/* Heads [from, to) of one group's rows: all of them see one key head. */
static void attend_latent(const LatentCall *c, int thread, RowGroup group, int from, int to)
{
    int heads = to - from, all = group.count * heads;
    ArenaMark mark = cpu_mark(c->b, thread);
    LatentKeys keys = {
        .cache = c->cache, .pages = c->cache->pages + c->rows[group.first].at, .Rkv = c->s.Dn, .Dr = c->s.Dr};
    keys.transposed = cpu_scratch(c->b, thread, (size_t)(c->s.Dn + c->s.Dr) * KEY_TILE);
    float *work = cpu_scratch(c->b, thread, panel_work(c->s));
    for (int first = 0; first < all; first += PANEL_ROWS) {
        QueryPanel panel;
        panel.rows = min_int(PANEL_ROWS, all - first);
        keys.positions = 0;
        for (int r = 0; r < panel.rows; r++) {
            int n = group.first + (first + r) / heads, head = from + (first + r) % heads;
            panel.pos[r] = c->rows[n].pos;
            keys.positions = panel.pos[r] >= keys.positions ? panel.pos[r] + 1 : keys.positions;
            panel.q[r] = head_at(c->qz, (size_t)n, head);
            panel.q_rope[r] = head_at(c->q_rope, (size_t)n, head);
            panel.o[r] = head_at(c->u, (size_t)n, head);
            panel.lse[r] = NULL;
        }
        panel_attend(&panel, c->s, latent_tile, &keys, work);
    }
    cpu_release(c->b, thread, mark);
}

void cpu_attention_latent(Backend *b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope,
                          CacheLayer cache, const CacheRow *rows, int n)
{
    AttentionShape absorbed = {.H = s.H, .Hkv = 1, .Dn = Rkv, .Dr = s.Dr, .Dv = Rkv, .scale = s.scale};
    LatentCall call = {b, absorbed, u, qz, q_rope, &cache, rows};
    ArenaMark mark = cpu_mark(b, 0);
    RowGroups groups = group_rows(b, rows, n, panel_positions(s.H));
    int team = cpu_team(b, groups.positions * s.H * (2 * Rkv + s.Dr));
    int cuts = groups.count < team ? min_int(team, s.H) : 1; /* a lone row's heads go to several threads */
    int items = groups.count * cuts;
#pragma omp parallel for num_threads(team) schedule(dynamic, 1)
    for (int i = 0; i < items; i++) {
        int cut = i % cuts;
        attend_latent(&call, omp_get_thread_num(), groups.at[i / cuts], s.H * cut / cuts, s.H * (cut + 1) / cuts);
    }
    cpu_release(b, 0, mark);
}
