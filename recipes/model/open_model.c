/* MODEL and TOKENIZER of a command line, opened. */
#include "recipes/model/open_model.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoints/lora.h"
#include "recipes/config/yaml.h"
#include "recipes/model/placed_policy.h"

DType open_model_precision(const CheckpointMeta *meta)
{
    bool bf16 = !strcmp(meta->precision, dtype_name(DTYPE_BF16));
    if (meta->precision[0] || !meta->recipe) return bf16 ? DTYPE_BF16 : DTYPE_F32;
    Status ignored = {0};
    Node *recipe = node_parse(meta->recipe, "recipe", true, &ignored);
    const Node *value = recipe ? node_get(recipe, "precision") : NULL;
    bf16 = value && value->kind == NODE_SCALAR && !strcmp(value->text, dtype_name(DTYPE_BF16));
    node_free(recipe);
    return bf16 ? DTYPE_BF16 : DTYPE_F32;
}

bool open_model_file(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st)
{
    *m = (OpenModel){.file = model_open_as(name, 0, o->base, MODEL_IN_PLACE | MODEL_TOKENIZER | MODEL_ATTACHMENTS, st)};
    if (!m->file) return false;
    RuntimeOptions options = *o;
    if (!options.dtype_given)
        options.dtype = m->file->checkpoint ? open_model_precision(&m->file->checkpoint->meta) : DTYPE_F32;
    if (model_has_weights(m->file, name, st) && (!o->adapter || model_add_adapter(m->file, o->adapter, st)) &&
        machine_open(&m->machine, &options, st))
        return true;
    open_model_close(m);
    return false;
}

bool open_model_placed(OpenModel *m, size_t work, Status *st)
{
    char line[512];
    PlacingPlan plan;
    m->policy = policy_placed(machine_engine(&m->machine), &m->file->config);
    if (!placing_open(&m->placing, &plan, &m->machine, m->file, m->policy, work, st)) return false;
    placing_describe(&plan, &m->placing, line, sizeof line);
    fprintf(stderr, "r1: %s is larger than its memory: %s\n", m->file->path, line);
    return true;
}

bool open_model_weights(OpenModel *m, size_t work, Status *st)
{
    if (!m->file->weights && !placing_fits(&m->machine, m->file, work)) return open_model_placed(m, work, st);
    m->policy = frozen_policy_open(&m->machine, m->file, st);
    if (!m->policy) return false;
    m->machine.ops->keep_packed(m->machine.backend, true); /* nobody trains it */
    return true;
}

bool open_model(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st)
{
    if (!open_model_file(m, name, o, st)) return false;
    if (open_model_weights(m, OPEN_MODEL_WORK, st)) return true;
    open_model_close(m);
    return false;
}

/* Bytes of all weights and copies of them. */
static size_t whole(const OpenModel *m)
{
    return 2 * m->file->table.total * sizeof(float);
}

static bool share_memory(OpenModel *a, OpenModel *b)
{
    size_t all = a->machine.memory;
    if (placing_fits(&a->machine, a->file, 2 * (size_t)OPEN_MODEL_WORK + whole(b))) return false;
    a->machine.memory = (size_t)((double)all * (double)whole(a) / ((double)whole(a) + (double)whole(b)));
    b->machine.memory = all - a->machine.memory;
    return true;
}

bool open_model_pair(OpenModel *a, const char *name_a, OpenModel *b, const char *name_b, const RuntimeOptions *o,
                     Status *st)
{
    *b = (OpenModel){0};
    if (!open_model_file(a, name_a, o, st)) return false;
    size_t all = a->machine.memory;
    bool ok = open_model_file(b, name_b, o, st), shared = ok && share_memory(a, b);
    ok = ok && open_model_weights(a, OPEN_MODEL_WORK, st) && open_model_weights(b, OPEN_MODEL_WORK, st);
    if (ok) return true;
    if (shared) fail_prefix(st, "of %.3f GB for two models by their sizes", (double)all / 1e9);
    if (b->file) open_model_close(b);
    open_model_close(a);
    return false;
}

void open_model_close(OpenModel *m)
{
    char line[512];
    if (m->placing.pool) {
        placing_summary(&m->placing, line, sizeof line);
        fprintf(stderr, "r1: %s\n", line);
    }
    policy_free(m->policy);
    placing_close(&m->placing);
    if (m->machine.ops) machine_close(&m->machine);
    model_close(m->file);
    *m = (OpenModel){0};
}

bool open_model_speaks(const OpenModel *m, const char *name, Status *st)
{
    return m->file->config.head == HEAD_LM || fail(st, "%s is a reward model: it gives one score, no log-probs", name);
}

bool open_model_reads_text(const OpenModel *m, const char *name, Status *st)
{
    if (m->file->tokenizer) return true;
    if (m->file->tokenizer_fault[0]) return fail(st, "%s", m->file->tokenizer_fault);
    return fail(st, "%s has no tokenizer; put tokenizer.json beside its weights, or give token ids with --ids", name);
}

Tokenizer *open_tokenizer(const char *name, Status *st)
{
    char stage[4096];
    struct stat info;
    size_t n = strlen(name);
    bool file = stat(name, &info) == 0 && S_ISREG(info.st_mode), json = n > 5 && !strcmp(name + n - 5, ".json");
    if (json || (!file && !model_stage_path(name, stage, sizeof stage))) return tokenizer_load(name, st);
    LoadedModel *m = model_open(name, MODEL_TOKENIZER, st);
    if (!m) return NULL;
    Tokenizer *t = m->tokenizer;
    m->tokenizer = NULL;
    if (!t) fail(st, "%s", m->tokenizer_fault[0] ? m->tokenizer_fault : "the model carries no tokenizer");
    model_close(m);
    return t;
}
