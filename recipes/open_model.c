#include "recipes/open_model.h"

#include <stdio.h>

#include "checkpoints/model_file.h"

bool open_model(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st)
{
    *m = (OpenModel){0};
    LoadedModel *file = model_open(name, MODEL_WEIGHTS | MODEL_TOKENIZER, st);
    if (!file) return false;
    bool ok = file->weights || fail(st, "%s is a model's name, without weights; give a checkpoint, a model folder or a .gguf file", name);
    ok = ok && machine_open(&m->machine, o, st);
    if (ok) {
        m->policy = policy_new(&m->machine, &file->config, 0, file->weights);
        m->tokenizer = file->tokenizer;
        snprintf(m->tokenizer_fault, sizeof m->tokenizer_fault, "%s", file->tokenizer_fault);
        file->weights = NULL;
        file->tokenizer = NULL;
    }
    model_close(file);
    return ok;
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
    if (m->tokenizer) return true;
    if (m->tokenizer_fault[0]) return fail(st, "%s", m->tokenizer_fault);
    return fail(st, "%s has no tokenizer; put tokenizer.json beside its weights, or give token ids with --ids", name);
}
