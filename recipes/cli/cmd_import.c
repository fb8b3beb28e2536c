/* r1 import: any model as an r1 checkpoint. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/model_file.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"

typedef struct ImportArgs {
    const char *model, *out, *base;
    int layers;
} ImportArgs;

static int read_args(int argc, char **argv, ImportArgs *a)
{
    const Option options[] = {
        {"-o", "CKPT", OPTION_TEXT, &a->out, 0, 0, "the checkpoint to write (.h5)"},
        {"--layers", "N", OPTION_INT, &a->layers, 1, 1 << 16,
         "only the first N layers, to try a model that is too large for this machine"},
        {"--base", "DIR", OPTION_TEXT, &a->base, 0, 0, "where the base of a checkpoint lies now, when it was moved"},
    };
    const Usage usage = {
        .name = "import",
        .arguments = "MODEL -o CKPT",
        .text = "Turns a Hugging Face folder, a .gguf file or another checkpoint into an r1 checkpoint (float32; bf16 "
                "of a\n"
                "folder stays bf16), with its tokenizer, its small files and the tensors that are carried along "
                "(multi-token\n"
                "prediction). Commands and recipes read such models directly too; an import is checked against a hash\n"
                "whenever it is opened.\n",
        .examples =
            "r1 import tests/golden/v3 -o v3.h5\nr1 inspect v3.h5\nr1 import tests/golden/v3 --layers 2 -o two.h5\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 1,
        .most = 1};
    int count, code = command_read(&usage, argc, argv, &a->model, &count);
    if (code != COMMAND_GO) return code;
    return a->out ? COMMAND_GO : command_usage(&usage, "it needs -o CKPT");
}

static bool save(const LoadedModel *m, const char *out, Status *st)
{
    CheckpointMeta meta = {.stage = "import", .finished = true, .attached = m->attached};
    if (m->tokenizer) meta.tokenizer = tokenizer_serialize(m->tokenizer, &meta.tokenizer_length);
    WeightSource source = model_source(m);
    bool ok = checkpoint_import(out, &m->config, &m->table, &source, &meta, st);
    free(meta.tokenizer);
    return ok;
}

int cmd_import(int argc, char **argv)
{
    ImportArgs a = {0};
    Status st = {0};
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    LoadedModel *m =
        model_open_as(a.model, a.layers, a.base, MODEL_IN_PLACE | MODEL_TOKENIZER | MODEL_ATTACHMENTS, &st);
    if (!m) return command_failed(&st);
    bool ok = model_has_weights(m, a.model, &st);
    if (ok && m->tokenizer_fault[0]) fprintf(stderr, "r1 import: without its tokenizer: %s\n", m->tokenizer_fault);
    ok = ok && save(m, a.out, &st);
    if (ok)
        printf("%s: %s, %zu parameters in %d tensors, %s tokenizer%s\n", a.out, arch_name(m->config.arch),
               m->table.count, m->table.n, m->tokenizer ? "with its" : "no",
               m->attached.ntensors ? ", tensors carried along" : "");
    model_close(m);
    return ok ? 0 : command_failed(&st);
}
