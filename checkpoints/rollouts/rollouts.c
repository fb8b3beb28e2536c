/* Rollouts of a run written in shards, cut back on resume. */
#include "checkpoints/rollouts/rollouts.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/durable.h"
#include "checkpoints/h5.h"
#include "checkpoints/rollouts/rollouts_shard.h"
#include "core/base/check.h"

struct RolloutWriter {
    char *folder, *stage;
    int block_steps;
    RolloutTable table; /* of the present block */
    int capacity;
    int64_t block;
    bool changed;
};

/* ---- Writing a shard: one column at a time ---- */

static const char *text_of(const RolloutSample *s, int column)
{
    return *(const char *const *)(const void *)((const char *)s + shard_texts[column].field);
}

static void write_texts(H5Writer *w, const RolloutTable *t, int column)
{
    size_t width = 1;
    for (int i = 0; i < t->n; i++) {
        size_t n = strlen(text_of(&t->samples[i], column));
        if (n > width) width = n;
    }
    char *rows = calloc((size_t)t->n + 1, width);
    CHECK(rows);
    for (int i = 0; i < t->n; i++) {
        const char *text = text_of(&t->samples[i], column);
        memcpy(rows + (size_t)i * width, text, strlen(text));
    }
    h5_write(w, shard_texts[column].name, H5_U8, 2, (uint64_t[]){(uint64_t)t->n, width}, rows);
    free(rows);
}

static void write_samples(H5Writer *w, const RolloutTable *t)
{
    size_t n = (size_t)t->n;
    int64_t *wide = calloc(n + 1, sizeof *wide);
    int32_t *narrow = calloc(n + 1, sizeof *narrow);
    float *real = calloc(n + 1, sizeof *real);
    uint8_t *flag = calloc(n + 1, 1);
    CHECK(wide && narrow && real && flag);
#define COLUMN(array, type, name, value)                                                                               \
    do {                                                                                                               \
        for (size_t i = 0; i < n; i++) array[i] = t->samples[i].value;                                                 \
        h5_write(w, name, type, 1, (uint64_t[]){n}, array);                                                            \
    } while (0)
    COLUMN(wide, H5_I64, "step", step);
    COLUMN(wide, H5_I64, "prompt", prompt);
    COLUMN(narrow, H5_I32, "sample", sample);
    COLUMN(real, H5_F32, "total", total);
    COLUMN(real, H5_F32, "advantage", advantage);
    COLUMN(flag, H5_U8, "truncated", truncated);
    for (int k = 0; k < t->n_names; k++) {
        char name[96];
        snprintf(name, sizeof name, "rewards/%s", t->names[k]);
        COLUMN(real, H5_F32, name, parts[k]);
    }
#undef COLUMN
    free(wide);
    free(narrow);
    free(real);
    free(flag);
}

static void write_token_column(H5Writer *w, const RolloutTable *t, const char *name, size_t total, size_t field)
{
    float *all = malloc((total + 1) * sizeof *all);
    CHECK(all);
    size_t at = 0;
    for (int i = 0; i < t->n; i++) {
        const RolloutSample *s = &t->samples[i];
        memcpy(all + at, *(const float *const *)(const void *)((const char *)s + field), (size_t)s->n * sizeof *all);
        at += (size_t)s->n;
    }
    h5_write(w, name, H5_F32, 1, (uint64_t[]){total}, all);
    free(all);
}

static void write_tokens(H5Writer *w, const RolloutTable *t)
{
    int64_t *offsets = calloc((size_t)t->n + 1, sizeof *offsets);
    CHECK(offsets);
    for (int i = 0; i < t->n; i++) offsets[i + 1] = offsets[i] + t->samples[i].n;
    size_t total = (size_t)offsets[t->n];
    int32_t *ids = malloc((total + 1) * sizeof *ids);
    CHECK(ids);
    for (int i = 0; i < t->n; i++) memcpy(ids + offsets[i], t->samples[i].ids, (size_t)t->samples[i].n * sizeof *ids);
    h5_write(w, "offsets", H5_I64, 1, (uint64_t[]){(uint64_t)t->n + 1}, offsets);
    h5_write(w, "ids", H5_I32, 1, (uint64_t[]){total}, ids);
    write_token_column(w, t, "logprobs", total, offsetof(RolloutSample, logprobs));
    write_token_column(w, t, "entropy", total, offsetof(RolloutSample, entropy));
    write_token_column(w, t, "ref_logprobs", total, offsetof(RolloutSample, ref_logprobs));
    free(ids);
    free(offsets);
}

static bool write_shard(const RolloutWriter *w, Status *st)
{
    char path[SHARD_PATH];
    Durable d;
    shard_path(path, w->folder, w->stage, w->block);
    if (!durable_begin(&d, path, st)) return false;
    H5Writer *h = h5_create(d.temp, path, 0, st);
    if (!h) return false;
    const RolloutTable *t = &w->table;
    h5_attr_text(h, "/", "stage", w->stage);
    h5_attr(h, "/", "first_step", H5_I64, &t->samples[0].step);
    h5_attr(h, "/", "last_step", H5_I64, &t->samples[t->n - 1].step);
    write_samples(h, t);
    write_tokens(h, t);
    for (int i = 0; i < SHARD_TEXTS; i++) write_texts(h, t, i);
    if (h5_close(h, st)) return durable_commit(&d, st);
    durable_abandon(&d);
    return false;
}

bool rollouts_index(const char *folder, Status *st)
{
    char path[SHARD_PATH];
    struct dirent **names;
    Durable d;
    snprintf(path, sizeof path, "%s/rollouts.h5", folder);
    int n = shard_names(folder, &names, st);
    if (n < 0) return false;
    H5Writer *h = durable_begin(&d, path, st) ? h5_create(d.temp, path, 0, st) : NULL;
    for (int i = 0; h && i < n; i++) {
        size_t length;
        int64_t number = shard_number(names[i]->d_name, &length);
        if (number < 0) continue;
        char link[300], file[300];
        snprintf(link, sizeof link, "%.*s/%06lld", (int)length, names[i]->d_name, (long long)number);
        snprintf(file, sizeof file, "rollouts/%s", names[i]->d_name);
        h5_link(h, link, file, "/");
    }
    shard_names_free(names, n);
    if (!h) return false;
    if (h5_close(h, st)) return durable_commit(&d, st);
    durable_abandon(&d);
    return false;
}

/* ---- The writer ---- */

static void set_names(RolloutTable *t, const char *const *names, int n)
{
    CHECK(n <= ROLLOUT_PARTS);
    t->n_names = n;
    for (int i = 0; i < n; i++) {
        snprintf(t->names[i], sizeof *t->names, "%s", names[i]);
        for (char *c = t->names[i]; *c; c++)
            if (*c == '/') *c = '_'; /* a slash would make a group */
    }
}

/* Parts of a shard come in the order of their names; the writer's have the recipe's order. */
static void reorder_parts(RolloutTable *from, const RolloutTable *to)
{
    for (int i = 0; i < from->n; i++) {
        float parts[ROLLOUT_PARTS];
        for (int k = 0; k < to->n_names; k++) {
            parts[k] = NAN;
            for (int j = 0; j < from->n_names; j++)
                if (!strcmp(from->names[j], to->names[k])) parts[k] = from->samples[i].parts[j];
        }
        memcpy(from->samples[i].parts, parts, sizeof parts);
    }
}

static bool remove_shards_after(const RolloutWriter *w, int64_t block, Status *st)
{
    struct dirent **names;
    int n = shard_names(w->folder, &names, st);
    bool ok = n >= 0;
    for (int i = 0; ok && i < n; i++) {
        size_t length;
        int64_t number = shard_number(names[i]->d_name, &length);
        if (number <= block || length != strlen(w->stage) || strncmp(names[i]->d_name, w->stage, length)) continue;
        char path[SHARD_PATH];
        shard_path(path, w->folder, w->stage, number);
        if (unlink(path)) ok = fail(st, "cannot remove %s: %s", path, strerror(errno));
    }
    if (n >= 0) shard_names_free(names, n);
    return ok;
}

/* The kept part of the block that `resume` is in. */
static bool reload(RolloutWriter *w, int64_t resume, Status *st)
{
    char path[SHARD_PATH];
    w->block = (resume - 1) / w->block_steps;
    shard_path(path, w->folder, w->stage, w->block);
    if (access(path, F_OK)) return true;
    RolloutTable kept = {0};
    if (!shard_read(path, 0, resume, &kept, &w->capacity, st)) {
        rollout_table_free(&kept);
        return false;
    }
    reorder_parts(&kept, &w->table);
    w->table.samples = kept.samples;
    w->table.n = kept.n;
    w->changed = kept.n > 0;
    return true;
}

RolloutWriter *rollouts_open(const char *folder, const char *stage, const char *const *names, int n_names, int block,
                             int64_t resume, Status *st)
{
    RolloutWriter *w = calloc(1, sizeof *w);
    CHECK(w && block > 0);
    w->folder = strdup(folder);
    w->stage = strdup(stage);
    w->block_steps = block;
    set_names(&w->table, names, n_names);
    if (remove_shards_after(w, resume ? (resume - 1) / block : -1, st) && (!resume || reload(w, resume, st)) &&
        rollouts_flush(w, st))
        return w;
    rollouts_close(w);
    return NULL;
}

void rollouts_add(RolloutWriter *w, const RolloutSample *s)
{
    int64_t block = (s->step - 1) / w->block_steps;
    if (block != w->block) {
        CHECK(!w->changed && block > w->block);
        rollout_table_free(&w->table);
        w->capacity = 0;
        w->block = block;
    }
    rollout_push(&w->table, &w->capacity, s);
    w->changed = true;
}

bool rollouts_block_ends(const RolloutWriter *w, int64_t step)
{
    return step % w->block_steps == 0;
}

bool rollouts_flush(RolloutWriter *w, Status *st)
{
    if (w->changed && w->table.n && !write_shard(w, st)) return false;
    w->changed = false;
    return rollouts_index(w->folder, st);
}

void rollouts_close(RolloutWriter *w)
{
    if (!w) return;
    rollout_table_free(&w->table);
    free(w->folder);
    free(w->stage);
    free(w);
}
