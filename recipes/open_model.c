#include "recipes/open_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/checkpoint.h"
#include "checkpoints/hf.h"
#include "core/check.h"

typedef struct Source {
    ModelConfig config;
    float *weights;
    Tokenizer *tokenizer;
} Source;

static bool exists(const char *folder, const char *name)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s%s%s", folder, name ? "/" : "", name ? name : "");
    return stat(path, &info) == 0;
}

static bool read_folder(const char *folder, Source *s, Status *st)
{
    if (!hf_config_read(folder, &s->config, st)) return false;
    ParamTable t = params_build(&s->config);
    s->weights = calloc(t.total, sizeof *s->weights);
    CHECK(s->weights != NULL);
    bool ok = hf_weights_read(folder, &s->config, &t, s->weights, st);
    params_free(&t);
    if (ok && exists(folder, "tokenizer.json")) ok = (s->tokenizer = tokenizer_load(folder, st)) != NULL;
    return ok;
}

static bool read_checkpoint(const char *path, Source *s, Status *st)
{
    Checkpoint *c = checkpoint_load(path, false, st);
    if (!c) return false;
    s->config = c->config;
    s->weights = c->weights;
    c->weights = NULL;
    bool ok = true;
    if (c->meta.tokenizer)
        ok = (s->tokenizer = tokenizer_parse(c->meta.tokenizer, c->meta.tokenizer_length, path, st)) != NULL;
    checkpoint_free(c);
    return ok;
}

/* RUN/STAGE stands for RUN/checkpoints/STAGE.h5. */
static bool stage_checkpoint(const char *name, char *path, size_t size)
{
    const char *slash = strrchr(name, '/');
    if (!slash) return false;
    snprintf(path, size, "%.*s/checkpoints/%s.h5", (int)(slash - name), name, slash + 1);
    return exists(path, NULL);
}

static bool read_source(const char *name, Source *s, Status *st)
{
    char path[4096];
    if (exists(name, "config.json")) return read_folder(name, s, st);
    if (exists(name, NULL)) return read_checkpoint(name, s, st);
    if (stage_checkpoint(name, path, sizeof path)) return read_checkpoint(path, s, st);
    return fail(st, "%s: there is no such model; give a checkpoint, RUN/STAGE or a model folder", name);
}

bool open_model(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st)
{
    Source s = {0};
    *m = (OpenModel){0};
    if (!read_source(name, &s, st) || !machine_open(&m->machine, o, st)) {
        free(s.weights);
        tokenizer_free(s.tokenizer);
        return false;
    }
    m->policy = policy_new(&m->machine, &s.config, 0, s.weights);
    m->tokenizer = s.tokenizer;
    return true;
}

void open_model_close(OpenModel *m)
{
    policy_free(m->policy);
    tokenizer_free(m->tokenizer);
    machine_close(&m->machine);
    *m = (OpenModel){0};
}

bool open_model_speaks(const OpenModel *m, const char *name, Status *st)
{
    return m->policy->config.head == HEAD_LM || fail(st, "%s is a reward model: it gives one score, no log-probs", name);
}

bool open_model_reads_text(const OpenModel *m, const char *name, Status *st)
{
    return m->tokenizer || fail(st, "%s has no tokenizer; put tokenizer.json beside its weights, or give token ids with --ids", name);
}
