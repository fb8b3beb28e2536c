/* Preference pairs as training sequences. */
#include "recipes/stages/pairs.h"

#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/run/sources.h"

bool pairs_mix(Run *r, const RecipeStage *s, CorpusSpec *out, Status *st)
{
    if (s->preferences.n) return run_preferences(r, s, out, st);
    if (!run_general(r, out, st)) return false;
    int n = 0;
    for (int i = 0; i < out->n_sources; i++)
        if (out->sources[i].task && out->sources[i].task->kind == KIND_HELPFUL) out->sources[n++] = out->sources[i];
    out->n_sources = n;
    return n > 0 || fail(st,
                         "stage %s has no pairs to learn from: name a file of them (`preferences:`), or a helpful "
                         "family under `general:`",
                         s->name);
}

int pairs_wanted(const RecipeStage *s, const CorpusSpec *c)
{
    return run_documents(c, s->pairs);
}

int pairs_heldout(const RecipeStage *s, const CorpusSpec *c)
{
    int rows = 0;
    for (int i = 0; i < c->n_sources; i++) {
        if (!c->sources[i].dataset) return s->heldout_pairs;
        rows += c->sources[i].dataset->n_test;
    }
    return rows < s->heldout_pairs ? rows : s->heldout_pairs;
}

static void keep(Pairs *p, Pair *pair, int max_length)
{
    if (pair->chosen.n > max_length || pair->rejected.n > max_length) {
        p->too_long++;
        sequence_free(&pair->chosen);
        sequence_free(&pair->rejected);
        return;
    }
    if (p->n == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        p->list = realloc(p->list, (size_t)p->capacity * sizeof *p->list);
        CHECK(p->list != NULL);
    }
    p->list[p->n++] = *pair;
}

/* The one sequence of a conversation whose last message is trained. */
static bool encode(const Voice *v, const Document *d, Sequence *out, Status *st)
{
    Sequences made = {0};
    if (!document_encode(v, d, TURNS_LAST, &made, st)) {
        sequences_free(&made);
        return false;
    }
    CHECK(made.n == 1 && made.list[0].n_spans > 0);
    *out = made.list[0];
    free(made.list);
    return true;
}

bool pairs_add(Pairs *out, const Run *r, const RecipeStage *s, const CorpusSpec *c, uint32_t seed, Split split, int n,
               Status *st)
{
    bool ok = true;
    for (int i = 0; i < n && ok; i++) {
        Document chosen, rejected;
        Pair pair = {0};
        float noise = split == SPLIT_TRAIN ? (float)s->noise : 0;
        ok = corpus_preference(&chosen, &rejected, c, seed, split, (uint64_t)i, noise, st);
        if (ok && !(encode(&r->voice, &chosen, &pair.chosen, st) && encode(&r->voice, &rejected, &pair.rejected, st)))
            ok = chosen.line ? fail_prefix(st, "%s: line %d", c->sources[chosen.source].dataset->path, chosen.line)
                             : false;
        if (ok) {
            keep(out, &pair, s->max_length);
        } else {
            sequence_free(&pair.chosen);
            sequence_free(&pair.rejected);
        }
        document_free(&chosen);
        document_free(&rejected);
    }
    return ok;
}

void pairs_free(Pairs *p)
{
    for (int i = 0; i < p->n; i++) {
        sequence_free(&p->list[i].chosen);
        sequence_free(&p->list[i].rejected);
    }
    free(p->list);
    *p = (Pairs){0};
}
