/* sft: clean worked traces (cold start), or a file of samples (rejection sampling, distillation); loss on completions only. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/stages/documents.h"
#include "recipes/stages/samples.h"
#include "core/batches.h"
#include "recipes/run/counts.h"
#include "recipes/run/sources.h"
#include "recipes/stages/sft_step.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"

/* A source of the documents; source NULL: the stage's file of samples. */
typedef struct Counted {
    const Source *source;
    SourceCount count;
} Counted;

typedef struct Sft {
    Documents documents;
    BatchBuilder batch;
    CorpusSpec reasoning, general;
    Counted counted[2 * CORPUS_MAX_SOURCES + 1];
    int n_counted;
    Teacher teacher; /* distillation on its distribution */
} Sft;

static void keep_count(Sft *f, const Source *s, const SourceCount *c)
{
    f->counted[f->n_counted++] = (Counted){s, *c};
}

/* What of a mix became documents. */
typedef struct MixCount {
    SourceCount list[CORPUS_MAX_SOURCES];
    uint8_t *seen[CORPUS_MAX_SOURCES]; /* rows of a file; NULL: built-in */
} MixCount;

static void count_document(MixCount *m, const Document *doc, bool added)
{
    SourceCount *c = &m->list[doc->source];
    uint8_t *seen = m->seen[doc->source];
    bool first = !seen || !seen[doc->row];
    if (!document_teaches(doc)) c->without_reply += first;
    else if (!added) c->too_long += first;
    else {
        c->documents++;
        c->rows += seen && !seen[doc->row];
    }
    if (seen) seen[doc->row] = 1;
}

/* The first n documents of a mix, and their counts by source. */
static bool add_documents(UnitRun *u, Sft *f, const CorpusSpec *c, int n, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    MixCount count = {0};
    bool ok = true;
    for (int i = 0; i < c->n_sources; i++)
        if (c->sources[i].dataset) count.seen[i] = calloc((size_t)c->sources[i].dataset->n, 1);
    for (int i = 0; i < n && ok; i++) {
        Document doc;
        int had = f->documents.n;
        corpus_document(&doc, c, run_seed(u->run, u->unit), (uint64_t)i);
        ok = documents_add(&f->documents, &u->run->voice, &doc, s->train_turns, s->max_length, st);
        if (!ok && doc.line) fail_prefix(st, "%s: line %d", c->sources[doc.source].dataset->path, doc.line);
        if (ok) count_document(&count, &doc, f->documents.n > had);
        document_free(&doc);
    }
    for (int i = 0; i < c->n_sources; i++) {
        keep_count(f, &c->sources[i], &count.list[i]);
        free(count.seen[i]);
    }
    return ok;
}

/* How often each is met follows from the steps. */
static void tell(UnitRun *u, const Sft *f)
{
    double epochs = batch_sum(&u->unit->stage->batch, u->total, f->documents.n) / f->documents.n;
    for (int i = 0; i < f->n_counted; i++) {
        SourceCount c = f->counted[i].count;
        const Source *s = f->counted[i].source;
        c.times = c.rows ? epochs * c.documents / c.rows : epochs;
        if (s) counts_add(u, s, &c);
        else counts_add_samples(u, "samples", &c);
    }
}

static bool finish_open(UnitRun *u, Sft *f, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    if (f->documents.n == 0)
        return fail(
            st,
            "stage %s has no training sequence (%d were longer than max_length %d, %d rows have no reply or answer): "
            "raise max_length or traces, or take other rows",
            s->name, f->documents.dropped, s->max_length, f->documents.without_reply);
    u->total = s->steps > 0 ? s->steps : batch_steps(&s->batch, s->epochs * f->documents.n);
    tell(u, f);
    return true;
}

static bool add_samples(UnitRun *u, Sft *f, int most, Status *st)
{
    int had = f->documents.n, dropped = f->documents.dropped;
    if (!samples_load(u->run, u->unit->stage->name, most, u->unit->stage->max_length, &f->documents, st)) return false;
    SourceCount c = {
        .documents = f->documents.n - had, .rows = f->documents.n - had, .too_long = f->documents.dropped - dropped};
    keep_count(f, NULL, &c);
    return true;
}

void sft_traces(const RecipeStage *s, CorpusSpec *c)
{
    memset(c->styles, 0, sizeof c->styles);
    c->styles[STYLE_CLEAN] = 1;
    c->swap_en = (float)s->swap_en;
    c->swap_zh = (float)s->swap_zh;
}

/* Clean traces of the generators and rows of files, general documents in their share, and filtered samples of another policy. */
static bool sft_open(UnitRun *u, Status *st)
{
    const RecipeStage *s = u->unit->stage;
    Sft *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    u->self = f;
    if (!run_reasoning(u->run, s, &f->reasoning, st) || !run_general(u->run, &f->general, st)) return false;
    sft_traces(s, &f->reasoning);
    int traces = run_documents(&f->reasoning, s->traces), seeds = (int)lround(s->seed_share * traces);
    if (s->seed_share > 0 && !add_samples(u, f, seeds, st)) return false;
    if (!add_documents(u, f, &f->reasoning, traces > f->documents.n ? traces - f->documents.n : 0, st)) return false;
    double share = s->general_share < 1 ? s->general_share : 0.999;
    if (f->general.n_sources && !add_documents(u, f, &f->general, (int)lround(traces * share / (1 - share)), st))
        return false;
    return finish_open(u, f, st);
}

static bool sft_samples_open(UnitRun *u, Status *st)
{
    Sft *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    u->self = f;
    const RecipeStage *s = u->unit->stage;
    if (s->kind == STAGE_DISTILL && s->objective != OBJECTIVE_TEXT && !teacher_open(u, &f->teacher, st)) return false;
    return add_samples(u, f, -1, st) && finish_open(u, f, st);
}

static bool sft_step(UnitRun *u, Json *metrics, bool *done, Status *st)
{
    (void)done;
    Sft *f = u->self;
    const RecipeStage *s = u->unit->stage;
    batch_reset(&f->batch);
    int batch = batch_at(&s->batch, u->step + 1), n = batch < f->documents.n ? batch : f->documents.n;
    for (int i = 0; i < n; i++) {
        const Sequence *q = &f->documents.list[documents_pick(&f->documents, run_seed(u->run, u->unit), u->cursor++)];
        batch_add_spans(&f->batch, q->ids, q->n, q->spans, q->n_spans);
    }
    const Teacher *teacher = f->teacher.policy ? &f->teacher : NULL;
    return sft_update(u, &f->batch, stage_rate(s, s->optim.lr, u->step + 1, u->total), teacher, metrics, st);
}

static void sft_close(UnitRun *u)
{
    Sft *f = u->self;
    if (!f) return;
    teacher_close(u, &f->teacher);
    documents_free(&f->documents);
    batch_free(&f->batch);
    free(f);
}

const UnitKind unit_sft = {.verb = "train", .open = sft_open, .step = sft_step, .close = sft_close};
const UnitKind unit_sft_samples = {.verb = "train", .open = sft_samples_open, .step = sft_step, .close = sft_close};
