/* pretrain: a base model on a synthetic bilingual corpus of problems, answers, imperfect traces and general text; the loss is
 * on every token. The corpus is endless: document i of the mix, in order. */
#include <limits.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/stages/documents.h"
#include "core/batches.h"
#include "recipes/run/counts.h"
#include "recipes/run/sources.h"
#include "recipes/stages/sft_step.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

typedef struct Pretrain {
    CorpusSpec corpus;
    BatchBuilder batch;
} Pretrain;

static bool pretrain_open(UnitRun *u, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    Pretrain *p = calloc(1, sizeof *p);
    CHECK(p != NULL);
    u->self = p;
    u->total = s->steps;
    if (!run_mix(u->run, s, s->general_share, &p->corpus, st)) return false;
    for (int i = 0; i < STYLE_COUNT; i++) p->corpus.styles[i] = (float)s->styles[i];
    p->corpus.swap_en = (float)s->swap_en;
    p->corpus.swap_zh = (float)s->swap_zh;
    counts_add_mix(u, &p->corpus, batch_sum(&s->batch, s->steps, INT_MAX), false);
    return true;
}

static bool pretrain_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    (void)done;
    Pretrain *p = u->self;
    const RecipeStage *s = u->unit->stage;
    Documents one = {0};
    batch_reset(&p->batch);
    bool ok = true;
    for (int i = 0, n = batch_at(&s->batch, u->step + 1); i < n && ok; i++) {
        Document doc;
        corpus_document(&doc, &p->corpus, run_seed(u->run, u->unit), (uint64_t)u->cursor++);
        ok = documents_add(&one, &u->run->voice, &doc, TURNS_WHOLE, s->max_length, st);
        if (!ok && doc.line) fail_prefix(st, "%s: line %d", p->corpus.sources[doc.source].dataset->path, doc.line);
        document_free(&doc);
    }
    for (int i = 0; i < one.n; i++) {
        const Sequence *q = &one.list[i];
        batch_add_spans(&p->batch, q->ids, q->n, q->spans, q->n_spans);
    }
    int dropped = one.dropped + one.without_reply;
    documents_free(&one);
    if (!ok) return false;
    if (p->batch.m == 0)
        return fail(st, "every document of a step of %s is longer than max_length %d; raise max_length", s->name,
                    s->max_length);
    if (dropped) {
        json_set(metrics, "dropped", json_new_int(dropped));
        json_set(u->extra, "dropped", json_new_int(dropped + json_integer(json_get(u->extra, "dropped"))));
    }
    return sft_update(u, &p->batch, stage_rate(s, s->optim.lr, u->step + 1, u->total), NULL, metrics, st);
}

static void pretrain_close(UnitRun *u)
{
    Pretrain *p = u->self;
    if (p) batch_free(&p->batch);
    free(p);
}

const UnitKind unit_pretrain = {.verb = "train", .open = pretrain_open, .step = pretrain_step, .close = pretrain_close};
