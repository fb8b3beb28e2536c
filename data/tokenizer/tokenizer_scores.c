/* Merges out of the scores of a SentencePiece vocabulary, and scores out of merges. */
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/utf8.h"

static int32_t type_of(const GgufVocabulary *v, int i)
{
    return !v->tokens[i] ? GGUF_UNUSED : v->types ? v->types[i] : GGUF_NORMAL;
}

typedef struct MergeList {
    ScoredMerge *at;
    size_t n, capacity;
} MergeList;

static void add_merge(MergeList *m, ScoredMerge one)
{
    if (m->n == m->capacity) {
        m->capacity = m->capacity ? 2 * m->capacity : 1024;
        m->at = realloc(m->at, m->capacity * sizeof *m->at);
        CHECK(m->at);
    }
    m->at[m->n++] = one;
}

/* Higher first. */
static int by_score(float a, float b)
{
    return (a < b) - (a > b);
}

/* The order of transformers' conversion: score of the whole, then its id, then the scores of the halves. */
static int in_order(const void *x, const void *y, void *of)
{
    const float *s = of;
    const ScoredMerge *a = x, *b = y;
    int order = by_score(s[a->id], s[b->id]);
    if (!order) order = (a->id > b->id) - (a->id < b->id);
    if (!order) order = by_score(s[a->left], s[b->left]);
    if (!order) order = by_score(s[a->right], s[b->right]);
    return order ? order : (a->left > b->left) - (a->left < b->left);
}

/* Ids of pieces by their text. Control tokens and bytes are none: what spells one is text. */
static ByteMap piece_map(const GgufVocabulary *v)
{
    ByteMap pieces = {0};
    for (int i = 0; i < v->n; i++)
        if (type_of(v, i) == GGUF_NORMAL || type_of(v, i) == GGUF_USER)
            bytemap_add(&pieces, v->tokens[i], strlen(v->tokens[i]), i);
    return pieces;
}

ScoredMerge *merges_by_score(const GgufVocabulary *v, size_t *n)
{
    ByteMap pieces = piece_map(v);
    MergeList m = {0};
    for (int i = 0; i < v->n; i++) {
        if (type_of(v, i) != GGUF_NORMAL) continue;
        const char *text = v->tokens[i];
        size_t all = strlen(text), used = all ? utf8_next(text, all, NULL) : 0;
        for (; used < all; used += utf8_next(text + used, all - used, NULL)) {
            int32_t left = bytemap_get(&pieces, text, used), right = bytemap_get(&pieces, text + used, all - used);
            if (left >= 0 && right >= 0) add_merge(&m, (ScoredMerge){i, left, right});
        }
    }
    bytemap_free(&pieces);
    if (m.n) qsort_r(m.at, m.n, sizeof *m.at, in_order, (void *)v->scores);
    *n = m.n;
    return m.at;
}

/* The merge of a line "left right"; id -1 when a piece is missing. */
static ScoredMerge merge_of(const ByteMap *pieces, const char *line)
{
    const char *space = strchr(line, ' ');
    ScoredMerge m = {-1, -1, -1};
    if (!space) return m;
    Text whole = {0};
    text_add_bytes(&whole, line, (size_t)(space - line));
    text_add(&whole, space + 1);
    m = (ScoredMerge){bytemap_get(pieces, whole.p, whole.n), bytemap_get(pieces, line, (size_t)(space - line)),
                      bytemap_get(pieces, space + 1, strlen(space + 1))};
    if (m.left < 0 || m.right < 0) m.id = -1;
    free(whole.p);
    return m;
}

static int by_pieces(const void *x, const void *y)
{
    const ScoredMerge *a = x, *b = y;
    int order = (a->id > b->id) - (a->id < b->id);
    return order ? order : (a->left > b->left) - (a->left < b->left);
}

bool scores_of_merges(const GgufVocabulary *v, float *scores, Status *st)
{
    size_t n = (size_t)v->n_merges, rebuilt = 0;
    ByteMap pieces = piece_map(v);
    ScoredMerge *have = malloc((n + 1) * sizeof *have);
    CHECK(have);
    int32_t last = -1, made = 0;
    bool ok = true;
    for (int i = 0; i < v->n; i++) scores[i] = -(float)(TOKENIZER_MAX_IDS + i); /* no merge makes it */
    for (size_t i = 0; i < n && ok; i++) {
        have[i] = merge_of(&pieces, v->merges[i]);
        int32_t id = have[i].id;
        if (id < 0) ok = fail(st, "its merge %zu makes or takes a control token", i);
        else if (id != last && scores[id] > -(float)TOKENIZER_MAX_IDS)
            ok = fail(st, "the merges that make \"%.40s\" do not follow one another", v->tokens[id]);
        else if (id != last) scores[last = id] = -(float)made++;
    }
    bytemap_free(&pieces);
    ScoredMerge *all = ok ? merges_by_score(v, &rebuilt) : NULL;
    if (ok) {
        if (n) qsort(have, n, sizeof *have, by_pieces);
        if (rebuilt) qsort(all, rebuilt, sizeof *all, by_pieces);
        ok = n == rebuilt && (n == 0 || !memcmp(have, all, n * sizeof *all));
        if (!ok)
            fail(st, "it has %zu merges, but its pieces can be made in %zu ways: SentencePiece would use them all", n,
                 rebuilt);
    }
    free(all);
    free(have);
    return ok;
}
