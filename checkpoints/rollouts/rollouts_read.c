/* Reads the shards of rollouts that a run wrote. */
#include "checkpoints/rollouts/rollouts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/h5.h"
#include "checkpoints/rollouts/rollouts_shard.h"
#include "core/base/check.h"

/* What reading needs of a column; NULL with a sentence when it is absent or has another size. */
static void *read_column(H5Reader *r, const char *name, H5Type type, size_t size, uint64_t count, Status *st)
{
    size_t bytes;
    void *data = __builtin_mul_overflow((size_t)count + 1, size, &bytes) ? NULL : malloc(bytes);
    if (!data) return fail(st, "its column %s does not fit into memory", name), NULL;
    if (h5_read(r, name, type, count, data, st)) return data;
    free(data);
    return NULL;
}

typedef struct Columns {
    uint64_t n, tokens;
    int64_t *step, *prompt, *offsets;
    int32_t *sample, *ids;
    float *total, *advantage, *logprobs, *entropy, *ref_logprobs, *parts[ROLLOUT_PARTS];
    uint8_t *truncated;
    char *texts[SHARD_TEXTS];
    uint64_t widths[SHARD_TEXTS];
    char names[ROLLOUT_PARTS][64];
    int n_names;
} Columns;

static void free_columns(Columns *c)
{
    void *all[] = {c->step,      c->prompt,   c->offsets, c->sample,       c->ids,      c->total,
                   c->advantage, c->logprobs, c->entropy, c->ref_logprobs, c->truncated};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    for (int i = 0; i < ROLLOUT_PARTS; i++) free(c->parts[i]);
    for (int i = 0; i < SHARD_TEXTS; i++) free(c->texts[i]);
}

static bool note_name(const char *name, void *context)
{
    Columns *c = context;
    if (c->n_names < ROLLOUT_PARTS) snprintf(c->names[c->n_names++], sizeof *c->names, "%s", name);
    return true;
}

static bool offsets_are_sound(const Columns *c)
{
    if (c->offsets[0] != 0 || c->offsets[c->n] != (int64_t)c->tokens) return false;
    for (uint64_t i = 0; i < c->n; i++)
        if (c->offsets[i + 1] < c->offsets[i] || c->offsets[i + 1] - c->offsets[i] > INT32_MAX) return false;
    return true;
}

static bool read_texts(H5Reader *r, Columns *c, Status *st)
{
    for (int i = 0; i < SHARD_TEXTS; i++) {
        int ndim;
        uint64_t shape[8];
        if (!h5_shape(r, shard_texts[i].name, H5_U8, &ndim, shape) || ndim != 2 || shape[0] != c->n ||
            shape[1] > 1 << 24)
            return fail(st, "its column %s is missing or of another size", shard_texts[i].name);
        c->widths[i] = shape[1];
        c->texts[i] = read_column(r, shard_texts[i].name, H5_U8, 1, c->n * shape[1], st);
        if (!c->texts[i]) return false;
    }
    return true;
}

static bool read_columns(H5Reader *r, Columns *c, Status *st)
{
    int ndim;
    uint64_t shape[8], tokens[8];
    if (!h5_shape(r, "step", H5_I64, &ndim, shape) || ndim != 1 || !h5_shape(r, "ids", H5_I32, &ndim, tokens) ||
        ndim != 1 || shape[0] > INT32_MAX)
        return fail(st, "it has no columns step and ids");
    c->n = shape[0];
    c->tokens = tokens[0];
    h5_each(r, "rewards", note_name, c);
    bool ok = (c->step = read_column(r, "step", H5_I64, 8, c->n, st)) &&
              (c->prompt = read_column(r, "prompt", H5_I64, 8, c->n, st)) &&
              (c->offsets = read_column(r, "offsets", H5_I64, 8, c->n + 1, st)) &&
              (c->sample = read_column(r, "sample", H5_I32, 4, c->n, st)) &&
              (c->ids = read_column(r, "ids", H5_I32, 4, c->tokens, st)) &&
              (c->total = read_column(r, "total", H5_F32, 4, c->n, st)) &&
              (c->advantage = read_column(r, "advantage", H5_F32, 4, c->n, st)) &&
              (c->logprobs = read_column(r, "logprobs", H5_F32, 4, c->tokens, st)) &&
              (c->entropy = read_column(r, "entropy", H5_F32, 4, c->tokens, st)) &&
              (c->ref_logprobs = read_column(r, "ref_logprobs", H5_F32, 4, c->tokens, st)) &&
              (c->truncated = read_column(r, "truncated", H5_U8, 1, c->n, st));
    for (int k = 0; ok && k < c->n_names; k++) {
        char name[96];
        snprintf(name, sizeof name, "rewards/%s", c->names[k]);
        ok = (c->parts[k] = read_column(r, name, H5_F32, 4, c->n, st)) != NULL;
    }
    if (!ok || !read_texts(r, c, st)) return false;
    return offsets_are_sound(c) ? true : fail(st, "its offsets are damaged");
}

/* Sample i as a view; text needs room for the four texts. */
static RolloutSample sample_at(const Columns *c, uint64_t i, char *text[SHARD_TEXTS])
{
    for (int k = 0; k < SHARD_TEXTS; k++) {
        memcpy(text[k], c->texts[k] + i * c->widths[k], c->widths[k]);
        text[k][c->widths[k]] = 0;
    }
    RolloutSample s = {.step = c->step[i],
                       .prompt = c->prompt[i],
                       .sample = c->sample[i],
                       .prompt_text = text[0],
                       .completion = text[1],
                       .answer = text[2],
                       .reason = text[3],
                       .ids = c->ids + c->offsets[i],
                       .logprobs = c->logprobs + c->offsets[i],
                       .entropy = c->entropy + c->offsets[i],
                       .ref_logprobs = c->ref_logprobs + c->offsets[i],
                       .n = (int)(c->offsets[i + 1] - c->offsets[i]),
                       .total = c->total[i],
                       .advantage = c->advantage[i],
                       .truncated = c->truncated[i]};
    for (int k = 0; k < c->n_names; k++) s.parts[k] = c->parts[k][i];
    return s;
}

bool shard_read(const char *path, int64_t first, int64_t last, RolloutTable *out, int *capacity, Status *st)
{
    H5Reader *r = h5_open(path, path, st);
    if (!r) return false;
    Columns c = {0};
    bool ok = read_columns(r, &c, st) || fail_prefix(st, "%s is damaged", path);
    h5_reader_close(r);
    char *text[SHARD_TEXTS] = {0};
    for (int k = 0; ok && k < SHARD_TEXTS; k++) CHECK((text[k] = malloc((size_t)c.widths[k] + 1)));
    for (uint64_t i = 0; ok && i < c.n; i++) {
        if (c.step[i] < first || c.step[i] > last) continue;
        RolloutSample s = sample_at(&c, i, text);
        rollout_push(out, capacity, &s);
    }
    out->n_names = c.n_names;
    memcpy(out->names, c.names, sizeof c.names);
    for (int k = 0; k < SHARD_TEXTS; k++) free(text[k]);
    free_columns(&c);
    return ok;
}

/* ---- The reader ---- */

typedef struct Range {
    int64_t first, last;
} Range;

static bool shard_range(const char *path, Range *range)
{
    Status ignored = {0};
    H5Reader *r = h5_open(path, path, &ignored);
    bool ok = r && h5_read_attr(r, "/", "first_step", H5_I64, &range->first) &&
              h5_read_attr(r, "/", "last_step", H5_I64, &range->last);
    h5_reader_close(r);
    return ok;
}

/* The path of the shard that holds a step; all: the steps of the stage. */
static bool find_shard(const char *folder, const char *stage, int64_t step, char *found, Range *all, Status *st)
{
    struct dirent **names;
    int n = shard_names(folder, &names, st);
    if (n < 0) return false;
    *all = (Range){0, -1};
    found[0] = 0;
    for (int i = 0; i < n; i++) {
        size_t length;
        int64_t number = shard_number(names[i]->d_name, &length);
        if (number < 0 || length != strlen(stage) || strncmp(names[i]->d_name, stage, length)) continue;
        char path[SHARD_PATH];
        Range range;
        shard_path(path, folder, stage, number);
        if (!shard_range(path, &range)) continue;
        if (all->last < 0) all->first = range.first;
        all->last = range.last;
        if (step >= range.first && step <= range.last) strcpy(found, path);
    }
    shard_names_free(names, n);
    return true;
}

/* Keeps the samples of one prompt; prompts are numbered by their first sample. */
static bool keep_prompt(RolloutTable *t, int prompt, int64_t step, Status *st)
{
    int64_t *distinct = malloc((size_t)t->n * sizeof *distinct);
    CHECK(distinct);
    int n_distinct = 0, kept = 0;
    for (int i = 0; i < t->n; i++) {
        int number = 0;
        while (number < n_distinct && distinct[number] != t->samples[i].prompt) number++;
        if (number == n_distinct) distinct[n_distinct++] = t->samples[i].prompt;
        if (number == prompt) t->samples[kept++] = t->samples[i];
        else rollout_sample_free(&t->samples[i]);
    }
    free(distinct);
    t->n = kept;
    if (kept) return true;
    return fail(st, "step %lld has the prompts 0 to %d, not %d", (long long)step, n_distinct - 1, prompt);
}

bool rollouts_read(const char *folder, const char *stage, int64_t step, int prompt, RolloutTable *out, Status *st)
{
    char path[SHARD_PATH];
    Range all;
    if (!find_shard(folder, stage, step, path, &all, st)) return false;
    if (all.last < 0) return fail(st, "%s has no rollouts of a stage '%s'; only RL stages have them", folder, stage);
    RolloutTable t = {0};
    int capacity = 0;
    bool ok = path[0] ? shard_read(path, step, step, &t, &capacity, st) : true;
    if (ok && !t.n)
        ok = fail(st, "stage %s has rollouts of the steps %lld to %lld, not of %lld", stage, (long long)all.first,
                  (long long)all.last, (long long)step);
    if (ok && prompt >= 0) ok = keep_prompt(&t, prompt, step, st);
    if (ok) *out = t;
    else rollout_table_free(&t);
    return ok;
}

bool rollouts_read_all(const char *folder, const char *stage, RolloutTable *out, Status *st)
{
    struct dirent **names;
    RolloutTable t = {0};
    int n = shard_names(folder, &names, st), capacity = 0;
    bool ok = n >= 0;
    for (int i = 0; ok && i < n; i++) {
        size_t length;
        char path[SHARD_PATH];
        int64_t number = shard_number(names[i]->d_name, &length);
        if (number < 0 || length != strlen(stage) || strncmp(names[i]->d_name, stage, length)) continue;
        shard_path(path, folder, stage, number);
        ok = shard_read(path, INT64_MIN, INT64_MAX, &t, &capacity, st);
    }
    if (n >= 0) shard_names_free(names, n);
    if (ok && !t.n) ok = fail(st, "%s has no rollouts of a stage '%s'; only RL stages have them", folder, stage);
    if (ok) *out = t;
    else rollout_table_free(&t);
    return ok;
}
