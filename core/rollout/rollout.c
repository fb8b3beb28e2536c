/* A whole rollout: continuous batching by admission and steps. */
#include "core/rollout/rollout_state.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/lora.h"

static void close_run(Rollout *r)
{
    for (int i = 0; i < r->spec->slots; i++)
        if (r->s->slots[i].item >= 0) slot_free(r, &r->s->slots[i]);
    admit_close(r);
}

/* Ids and lengths that the model has rows and positions for. */
static bool prompt_fits(const ModelConfig *c, const RolloutPrompt *p, int number, Status *st)
{
    if (p->n < 1) return fail(st, "prompt %d of a rollout is empty; give it at least one token", number);
    if (p->n >= c->max_positions)
        return fail(st,
                    "prompt %d has %d tokens, but the model has positions for %d (max_position_embeddings): shorten it",
                    number + 1, p->n, c->max_positions);
    return ids_fit(p->ids, p->n, c, st) || fail_prefix(st, "prompt %d", number + 1);
}

static bool is_finite(const Rollout *r, Status *st)
{
    if (r->broken < 0) return true;
    return fail(
        st,
        "the model gave a log-prob that is not finite for a completion of prompt %d: a weight is no number or far "
        "too large (r1 inspect MODEL --sha256 looks for it)",
        r->broken / r->spec->samples + 1);
}

bool rollout_is_late(const Engine *e, const Weights *w, int draft, bool routes)
{
    const char *asked = getenv("R1_LATE");
    bool pays = asked && *asked ? !strcmp(asked, "yes") : e->ops->device.late;
    return pays && !draft && !routes && !w->keeper;
}

/* False: cancelled, broken, or its weights could not be had. */
static bool run_in_step(Rollout *r, Status *st)
{
    bool stopped = false;
    for (admit(r); r->busy > 0 && !stopped; admit(r)) {
        decode_step(r);
        stopped = (r->spec->cancel && *r->spec->cancel) || r->broken >= 0 || !keeper_fault(r->w->keeper, st);
    }
    return !stopped;
}

bool rollout_run(Sampler *s, const Weights *w, const RolloutSpec *spec, const RolloutPrompt *prompts, int n,
                 Completion *out, RolloutStats *stats, Status *st)
{
    CHECK(n > 0 && spec->samples > 0 && spec->slots > 0 && spec->max_tokens > 0);
    RolloutSpec used = *spec;
    CHECK(spec->draft >= 0 && spec->draft <= DRAFT_MOST);
    if (spec->draft && s->e->config->mtp == 0)
        return fail(st, "drafts need a model with modules of multi-token prediction (num_nextn_predict_layers), which "
                        "this one has not as parameters");
    RolloutSize size = {.prompts = n,
                        .samples = spec->samples,
                        .slots = spec->slots,
                        .max_tokens = spec->max_tokens,
                        .draft = spec->draft};
    for (int i = 0; i < n; i++) {
        if (!prompt_fits(s->e->config, &prompts[i], i, st)) return false;
        if (prompts[i].n > size.longest) size.longest = prompts[i].n;
    }
    RolloutNeed need = rollout_need(&size);
    used.slots = need.slots;
    bool late = rollout_is_late(s->e, w, spec->draft, spec->routes);
    if (!sampler_reserve(s, &used, &need, late, st)) return false;
    if (spec->routes) routes_reserve(&s->routes, s->e->config, need.tokens, prompts, n);
    engine_reset(s->e);
    Weights merged = *w;
    if (spec->cache == CACHE_LATENT) merged = lora_merge_latent(s->e, w);
    Rollout r = {.s = s,
                 .w = &merged,
                 .spec = &used,
                 .prompts = prompts,
                 .out = out,
                 .n = n,
                 .items = n * spec->samples,
                 .broken = -1};
    r.prefills = calloc((size_t)n, sizeof *r.prefills);
    CHECK(r.prefills != NULL);
    bool kept = s->e->ops->keep_packed(s->e->backend, !w->keeper);
    bool stopped = !(late ? late_run(&r) : run_in_step(&r, st));
    s->e->ops->keep_packed(s->e->backend, kept);
    close_run(&r);
    r.stats.occupancy = r.queued_steps ? r.busy_sum / ((double)r.queued_steps * used.slots) : 1.0;
    r.stats.cache_bytes = kv_cache_bytes(&s->cache);
    if (stats) *stats = r.stats;
    if (st->failed || !keeper_fault(w->keeper, st) || !is_finite(&r, st)) return false;
    return stopped ? fail(st, "interrupted") : true;
}
