/* r1 export: any model as a Hugging Face folder or a GGUF file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hf/hf.h"
#include "checkpoints/hf/peft.h"
#include "checkpoints/lora.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/config/yaml.h"
#include "recipes/model/voice.h"

typedef enum { EXPORT_HF, EXPORT_GGUF, EXPORT_PEFT, EXPORT_FORMATS } ExportFormat;

typedef struct ExportType {
    const char *name;
    StDtype hf; /* ST_OTHER: a folder has no such type */
    GgufTarget gguf;
} ExportType;

static const ExportType types[] = {
    {"f32", ST_F32, GGUF_WRITE_F32},
    {"f16", ST_F16, GGUF_WRITE_F16},
    {"bf16", ST_BF16, GGUF_WRITE_BF16},
    {"q8_0", ST_OTHER, GGUF_WRITE_Q8_0},
};

static const char *format_name(int k)
{
    static const char *const names[EXPORT_FORMATS] = {"hf", "gguf", "peft"};
    return k < EXPORT_FORMATS ? names[k] : NULL;
}

static const char *type_name(int k)
{
    return k < (int)(sizeof types / sizeof *types) ? types[k].name : NULL;
}

typedef struct ExportArgs {
    const char *model, *out, *adapter, *base;
    int format; /* ExportFormat */
    const ExportType *type;
} ExportArgs;

static int read_args(int argc, char **argv, ExportArgs *a)
{
    bool formatted = false;
    int type = 0;
    const Option options[] = {
        {"--format", "hf|gguf|peft", OPTION_CHOICE, &(OptionChoice){&a->format, format_name, &formatted}, 0, 0,
         "a folder that transformers loads, a file that llama.cpp loads (adapters are merged into the\n"
         "weights of both), or the adapters alone as a folder that peft loads"},
        {"--dtype", "TYPE", OPTION_CHOICE, &(OptionChoice){&type, type_name, NULL}, 0, 0,
         "f32 (default), f16, bf16; gguf also q8_0"},
        {"--adapter", "DIR", OPTION_TEXT, &a->adapter, 0, 0,
         "adds the LoRA adapter that peft wrote to this folder, so that it is merged"},
        {"--base", "DIR", OPTION_TEXT, &a->base, 0, 0,
         "hf, gguf: where the base of the checkpoint lies now, when it was moved; peft: how the adapter names its\n"
         "base model (default: model.from of the run's recipe)"},
        {"-o", "OUT", OPTION_TEXT, &a->out, 0, 0, "the folder (new or empty) or the file to write"},
    };
    const Usage usage = {.name = "export",
                         .arguments = "MODEL --format hf|gguf|peft [--dtype f32|f16|bf16|q8_0] -o OUT",
                         .text = "Writes a model for other programs: names, layouts and configuration as they expect "
                                 "them, the tokenizer's files\n"
                                 "as they came. A model that was imported goes back with what came along with it.\n",
                         .examples = "r1 export runs/tiny/distill --format hf -o student\nr1 export runs/tiny/distill "
                                     "--format gguf --dtype q8_0 "
                                     "-o student.gguf\nr1 export runs/lora/sft --format peft -o adapter\n",
                         .options = options,
                         .n = sizeof options / sizeof *options,
                         .least = 1,
                         .most = 1};
    int count, code = command_read(&usage, argc, argv, &a->model, &count);
    if (code != COMMAND_GO) return code;
    if (!formatted || !a->out) return command_usage(&usage, "it needs --format hf|gguf|peft and -o OUT");
    a->type = &types[type];
    if (a->format != EXPORT_GGUF && a->type->hf == ST_OTHER)
        return command_usage(&usage, "--dtype %s is for --format gguf", a->type->name);
    return COMMAND_GO;
}

/* What GGUF's general.name says: the last part of the model's name, without its ending. */
static char *base_name(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from && path[from - 1] != '/') from--;
    char *name = strndup(path + from, n - from), *dot = name ? strrchr(name, '.') : NULL;
    if (dot && (!strcmp(dot, ".gguf") || !strcmp(dot, ".h5"))) *dot = 0;
    return name;
}

/* Whether an eos_token_id, a number or a list, names the id. */
static bool names_end(const Json *eos, int32_t id)
{
    if (json_is_integer_value(eos)) return json_integer(eos) == id;
    for (size_t i = 0; json_is_array(eos) && i < json_count(eos); i++)
        if (json_is_integer_value(json_at(eos, i)) && json_integer(json_at(eos, i)) == id) return true;
    return false;
}

/* generation_config.json says every id at which r1 stops: a base model that was taught to chat ends its turns with the template's
 * marker, which its old end token is not. */
static void attach_ends(LoadedModel *m, const Voice *v)
{
    Status ignored = {0};
    const AttachedFile *old = attached_file(&m->attached, "generation_config.json");
    Json *o = old ? json_parse(old->bytes, old->length, "generation_config.json", &ignored) : NULL;
    if (!o || !json_is_object(o)) {
        json_free(o);
        o = json_new_object();
        if (m->config.bos >= 0) json_set(o, "bos_token_id", json_new_int(m->config.bos));
    }
    bool missing = !old;
    for (int i = 0; i < v->n_stops; i++) missing = missing || !names_end(json_get(o, "eos_token_id"), v->stops[i]);
    if (!missing) {
        json_free(o); /* the file goes back as it came */
        return;
    }
    Json *list = json_new_array();
    for (int i = 0; i < v->n_stops; i++) json_append(list, json_new_int(v->stops[i]));
    json_set(o, "eos_token_id", list);
    char *text = json_write(o, true);
    attach_file(&m->attached, "generation_config.json", text, strlen(text));
    free(text);
    json_free(o);
}

static void end_as_here(const ExportArgs *a, LoadedModel *m)
{
    Voice v;
    Status why = {0};
    if (!m->tokenizer || m->tokenizer_fault[0]) return;
    if (!voice_open(&v, m->tokenizer, NULL, &m->config, &m->attached, &why)) {
        fprintf(stderr, "r1 export: end tokens as config.json has them: %s\n", why.text);
        return;
    }
    if (v.n_stops == 0) return;
    if (a->format == EXPORT_HF) attach_ends(m, &v);
    else if (v.has_template)
        m->config.eos = v.stops[0]; /* a GGUF file has one; llama.cpp knows the others by their texts */
}

static void say_without_vocabulary(const LoadedModel *m)
{
    GgufVocabulary v;
    Status why = {0};
    if (!m->tokenizer) return;
    if (tokenizer_to_gguf(m->tokenizer, m->config.V, &v, &why)) gguf_vocabulary_free(&v);
    else
        fprintf(stderr,
                "r1 export: the file gets no vocabulary, since llama.cpp has none with the ids of this tokenizer: "
                "%s\n",
                why.text);
}

/* model.from of the recipe that made the checkpoint; NULL: it says none. Caller frees. */
static char *base_of_recipe(const LoadedModel *m)
{
    Status ignored = {0};
    const char *text = m->checkpoint ? m->checkpoint->meta.recipe : NULL;
    Node *recipe = text ? node_parse(text, "recipe", true, &ignored) : NULL;
    const Node *block = recipe ? node_get(recipe, "model") : NULL,
               *from = block && block->kind == NODE_MAP ? node_get(block, "from") : NULL;
    char *base = from && from->kind == NODE_SCALAR && from->text[0] ? strdup(from->text) : NULL;
    node_free(recipe);
    return base;
}

static bool save_adapters(const ExportArgs *a, const LoadedModel *m, Status *st)
{
    if (!m->config.lora.rank)
        return fail(st,
                    "%s has no adapters: --format peft is for models trained with `lora:` in their recipe; take hf or "
                    "gguf",
                    a->model);
    char *base = a->base ? strdup(a->base) : base_of_recipe(m);
    bool ok = peft_write(a->out, &m->config, &m->table, model_source(m), a->type->hf, base ? base : "", st);
    free(base);
    return ok;
}

static void say_what_stays(const LoadedModel *m)
{
    if (m->attached.ntensors)
        fprintf(stderr, "r1 export: GGUF has no place for the %d tensors of multi-token prediction; they stay behind\n",
                m->attached.ntensors);
    if (m->config.mtp)
        fprintf(stderr, "r1 export: GGUF has no place for the %d modules of multi-token prediction; they stay behind\n",
                m->config.mtp);
    if (m->config.topk == TOPK_GROUP_MAX && m->config.n_group > 1)
        fprintf(stderr,
                "r1 export: llama.cpp scores groups of experts by their two best, DeepSeek-V2 by the best: it computes "
                "other logits from this file (r1 does not)\n");
}

/* The model with its adapters merged, a few rows of a tensor at a time. */
static bool save(const ExportArgs *a, const LoadedModel *m, Status *st)
{
    ModelConfig config = lora_merged_config(&m->config);
    ParamTable table = params_build(&config);
    bool ok;
    if (a->format == EXPORT_HF) {
        ok = hf_write(a->out, &config, &table, merged_source(m), a->type->hf, 0, m->tokenizer, &m->attached, st);
    } else {
        say_what_stays(m);
        char *name = base_name(a->model);
        ok = gguf_write(a->out, name, &config, &table, merged_source(m), a->type->gguf, m->tokenizer, st);
        if (ok) say_without_vocabulary(m);
        free(name);
    }
    params_free(&table);
    return ok;
}

static size_t count_written(const ExportArgs *a, const LoadedModel *m)
{
    size_t count[2] = {0, 0}; /* the model's own, its adapters' */
    for (int i = 0; i < m->table.n; i++) count[i >= m->table.adapters] += m->table.params[i].count;
    return count[a->format == EXPORT_PEFT];
}

int cmd_export(int argc, char **argv)
{
    ExportArgs a = {0};
    Status st = {0};
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    /* A checkpoint's adapters are read without their base. */
    unsigned weights = a.format == EXPORT_PEFT ? 0 : MODEL_IN_PLACE;
    LoadedModel *m = model_open_as(a.model, 0, a.base, weights | MODEL_TOKENIZER | MODEL_ATTACHMENTS, &st);
    if (!m) return command_failed(&st);
    bool ok = model_has_weights(m, a.model, &st);
    ok = ok &&
         (m->config.head == HEAD_LM || fail(&st, "%s is a reward model; no other program knows its head", a.model));
    ok = ok && (!a.adapter || model_add_adapter(m, a.adapter, &st));
    if (ok && m->tokenizer_fault[0]) fprintf(stderr, "r1 export: without its tokenizer: %s\n", m->tokenizer_fault);
    if (ok && a.format != EXPORT_PEFT) end_as_here(&a, m);
    ok = ok && (a.format == EXPORT_PEFT ? save_adapters(&a, m, &st) : save(&a, m, &st));
    if (ok)
        printf("%s: %s, %zu parameters in %s\n", a.out, arch_name(m->config.arch), count_written(&a, m), a.type->name);
    model_close(m);
    return ok ? 0 : command_failed(&st);
}
