/* sft: clean worked traces (cold start), or a file of samples (rejection sampling, distillation); loss on completions only. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "recipes/stages/documents.h"
#include "recipes/stages/samples.h"
#include "core/batches.h"
#include "recipes/run/sources.h"
#include "recipes/stages/sft_step.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

typedef struct Sft {
    Documents documents;
    BatchBuilder batch;
} Sft;

static void add_generated(UnitRun *u, Sft *f, const CorpusSpec *c, int n, int max_length)
{
    for (int i = 0; i < n; i++) {
        Document doc;
        corpus_document(&doc, c, run_seed(u->run, u->unit), (uint64_t)i);
        documents_add(&f->documents, &u->run->voice, doc.prompt, doc.completion, max_length, false);
        free(doc.prompt);
        free(doc.completion);
    }
}

static bool finish_open(UnitRun *u, Sft *f, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    if (f->documents.n == 0)
        return fail(st,
                    "stage %s has no training sequence (%d were longer than max_length %d): raise max_length or traces",
                    s->name, f->documents.dropped, s->max_length);
    u->total = s->steps > 0 ? s->steps : (int64_t)ceil(s->epochs * f->documents.n / s->batch);
    return true;
}

/* Clean traces of the generators, general documents in their share, and filtered samples of another policy. */
static bool sft_open(UnitRun *u, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    Sft *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    u->self = f;
    CorpusSpec reasoning, general;
    if (!run_reasoning(u->run, s, &reasoning, st) || !run_general(u->run, &general, st)) return false;
    memset(reasoning.styles, 0, sizeof reasoning.styles);
    reasoning.styles[STYLE_CLEAN] = 1;
    reasoning.swap_en = (float)s->swap_en;
    reasoning.swap_zh = (float)s->swap_zh;
    int seeded = 0;
    if (s->seed_share > 0 &&
        !samples_load(u->run, s->name, (int)lround(s->seed_share * s->traces), s->max_length, &f->documents, st))
        return false;
    seeded = f->documents.n;
    add_generated(u, f, &reasoning, s->traces - seeded > 0 ? s->traces - seeded : 0, s->max_length);
    double share = s->general_share < 1 ? s->general_share : 0.999;
    if (general.n_sources) add_generated(u, f, &general, (int)lround(s->traces * share / (1 - share)), s->max_length);
    return finish_open(u, f, st);
}

static bool sft_samples_open(UnitRun *u, Status *st)
{
    Sft *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    u->self = f;
    return samples_load(u->run, u->unit->stage->name, -1, u->unit->stage->max_length, &f->documents, st) &&
           finish_open(u, f, st);
}

static bool sft_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    (void)done;
    Sft *f = u->self;
    const RecipeStage *s = u->unit->stage;
    batch_reset(&f->batch);
    int n = s->batch < f->documents.n ? s->batch : f->documents.n;
    for (int i = 0; i < n; i++) {
        const Sequence *q = &f->documents.list[documents_pick(&f->documents, run_seed(u->run, u->unit), u->cursor++)];
        batch_add(&f->batch, q->ids, q->n, q->first);
    }
    return sft_update(u, &f->batch, stage_rate(s, s->optim.lr, u->step + 1, u->total), metrics, st);
}

static void sft_close(UnitRun *u)
{
    Sft *f = u->self;
    if (!f) return;
    documents_free(&f->documents);
    batch_free(&f->batch);
    free(f);
}

const UnitKind unit_sft = {.verb = "train", .open = sft_open, .step = sft_step, .close = sft_close};
const UnitKind unit_sft_samples = {.verb = "train", .open = sft_samples_open, .step = sft_step, .close = sft_close};
