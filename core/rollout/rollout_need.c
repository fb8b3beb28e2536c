/* Slots, tiles, pages and workspace of a rollout. */
#include "core/rollout/rollout_need.h"

#include <string.h>

#include "core/lora.h"
#include "core/rollout/rollout.h"
#include "core/rollout/rollout_rows.h"

RolloutNeed rollout_need(const RolloutSize *s)
{
    int slots = s->prompts <= s->slots / s->samples ? s->prompts * s->samples : s->slots;
    int tiles = rollout_tiles(s->longest + s->max_tokens), first = (slots + s->samples - 1) / s->samples;
    int started = slots / s->samples + 2;
    return (RolloutNeed){.slots = slots,
                         .tiles = tiles,
                         .pages = slots * tiles + started * rollout_tiles(s->longest),
                         .tokens = (size_t)s->prompts * (size_t)s->samples * (size_t)s->max_tokens,
                         .first_prompts = first < s->prompts ? first : s->prompts,
                         .started = started};
}

/* nseq 0: a decode step, whose samples are drawn. */
static void dry_rows(Engine *e, const Weights *w, KvCache *cache, int n, int nseq, const RolloutSize *s)
{
    EngineMark mark = engine_mark(e);
    size_t drawn = nseq ? 0 : (size_t)n;
    bool late = drawn && rollout_is_late(e, w, s->draft, false);
    int32_t *ids =
        arena_ints(&e->arena, late ? drawn : 2 * drawn); /* late: found on the device; else sampled, with log-probs */
    const float *u = engine_upload(e, arena_floats(&e->host, drawn), drawn * sizeof *u);
    RolloutRows r = rollout_rows(e, n, nseq, rollout_tiles(nseq ? s->longest : s->longest + s->max_tokens));
    memset(r.ids, 0, (size_t)n * sizeof *r.ids);
    for (int i = 0; i < n; i++) r.pos[i] = s->longest + (nseq ? 0 : s->max_tokens) - 1;
    memset(r.cached, 0, (size_t)n * sizeof *r.cached);
    for (int i = 0; i < nseq; i++) r.offsets[i] = i * s->longest, r.ends[i] = (i + 1) * s->longest - 1;
    if (nseq) r.offsets[nseq] = n;
    float *logits = rollout_logits(e, w, &r, rollout_states(e, w, &r, cache));
    SampleArgs args = {.temperature = 1, .top_p = 1};
    if (drawn) e->ops->sample(e->backend, ids, (float *)ids, mat_f32(logits, drawn, (size_t)e->config->V), args, u);
    engine_release(e, mark);
}

void rollout_dry(Engine *e, const Weights *w, const RolloutSize *s, KvCache *cache)
{
    RolloutNeed need = rollout_need(s);
    Weights merged = *w;
    engine_reset(e);
    if (cache->kind == CACHE_LATENT) merged = lora_merge_latent(e, w);
    w = &merged;
    dry_rows(e, w, cache, need.first_prompts * s->longest, need.first_prompts, s);
    dry_rows(e, w, cache, need.slots * (s->draft + 1), 0, s);
    engine_reset(e);
}
