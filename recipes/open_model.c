#include "recipes/open_model.h"

bool open_model(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st)
{
    *m = (OpenModel){.file = model_open(name, MODEL_WEIGHTS | MODEL_TOKENIZER | MODEL_ATTACHMENTS, st)};
    if (!m->file) return false;
    if (!model_has_weights(m->file, name, st) || !machine_open(&m->machine, o, st)) {
        model_close(m->file);
        return false;
    }
    m->policy = policy_new(&m->machine, &m->file->config, 0, m->file->weights);
    m->file->weights = NULL;
    return true;
}

void open_model_close(OpenModel *m)
{
    policy_free(m->policy);
    machine_close(&m->machine);
    model_close(m->file);
    *m = (OpenModel){0};
}

bool open_model_speaks(const OpenModel *m, const char *name, Status *st)
{
    return m->policy->config.head == HEAD_LM ||
           fail(st, "%s is a reward model: it gives one score, no log-probs", name);
}

bool open_model_reads_text(const OpenModel *m, const char *name, Status *st)
{
    if (m->file->tokenizer) return true;
    if (m->file->tokenizer_fault[0]) return fail(st, "%s", m->file->tokenizer_fault);
    return fail(st, "%s has no tokenizer; put tokenizer.json beside its weights, or give token ids with --ids", name);
}
