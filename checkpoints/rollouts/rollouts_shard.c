/* One shard of rollouts: names, columns, writing. */
#include "checkpoints/rollouts/rollouts_shard.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

const ShardText shard_texts[SHARD_TEXTS] = {{"prompt_text", offsetof(RolloutSample, prompt_text)},
                                            {"completion", offsetof(RolloutSample, completion)},
                                            {"answer", offsetof(RolloutSample, answer)},
                                            {"reason", offsetof(RolloutSample, reason)}};

static void *copy_bytes(const void *bytes, size_t n)
{
    void *copy = malloc(n ? n : 1);
    CHECK(copy);
    if (n) memcpy(copy, bytes, n);
    return copy;
}

static char *copy_text(const char *text)
{
    return copy_bytes(text ? text : "", strlen(text ? text : "") + 1);
}

static float *copy_floats(const float *v, int n)
{
    if (v) return copy_bytes(v, (size_t)n * sizeof *v);
    float *none = malloc(((size_t)n + 1) * sizeof *none);
    CHECK(none);
    for (int i = 0; i < n; i++) none[i] = NAN;
    return none;
}

static RolloutSample copy_sample(const RolloutSample *s)
{
    RolloutSample c = *s;
    c.prompt_text = copy_text(s->prompt_text);
    c.completion = copy_text(s->completion);
    c.answer = copy_text(s->answer);
    c.reason = copy_text(s->reason);
    c.ids = copy_bytes(s->ids, (size_t)s->n * sizeof *s->ids);
    c.logprobs = copy_floats(s->logprobs, s->n);
    c.entropy = copy_floats(s->entropy, s->n);
    c.ref_logprobs = copy_floats(s->ref_logprobs, s->n);
    return c;
}

void rollout_sample_free(const RolloutSample *s)
{
    free((void *)s->prompt_text);
    free((void *)s->completion);
    free((void *)s->answer);
    free((void *)s->reason);
    free((void *)s->ids);
    free((void *)s->logprobs);
    free((void *)s->entropy);
    free((void *)s->ref_logprobs);
}

void rollout_push(RolloutTable *t, int *capacity, const RolloutSample *s)
{
    if (t->n == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 64;
        t->samples = realloc(t->samples, (size_t)*capacity * sizeof *t->samples);
        CHECK(t->samples);
    }
    t->samples[t->n++] = copy_sample(s);
}

void rollout_table_free(RolloutTable *t)
{
    for (int i = 0; i < t->n; i++) rollout_sample_free(&t->samples[i]);
    free(t->samples);
    t->samples = NULL;
    t->n = 0;
}

int64_t shard_number(const char *name, size_t *stage_length)
{
    size_t n = strlen(name);
    if (n < 11 || strcmp(name + n - 3, ".h5") || name[n - 10] != '-' || strspn(name + n - 9, "0123456789") != 6)
        return -1;
    *stage_length = n - 10;
    return strtol(name + n - 9, NULL, 10);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

int shard_names(const char *folder, struct dirent ***names, Status *st)
{
    char path[SHARD_PATH];
    snprintf(path, sizeof path, "%s/rollouts", folder);
    int n = scandir(path, names, NULL, by_name);
    if (n < 0) fail(st, "cannot read the folder %s: %s", path, strerror(errno));
    return n;
}

void shard_names_free(struct dirent **names, int n)
{
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
}

void shard_path(char *out, const char *folder, const char *stage, int64_t block)
{
    snprintf(out, SHARD_PATH, "%s/rollouts/%s-%06lld.h5", folder, stage, (long long)block);
}
