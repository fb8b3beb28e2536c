/* The table of runtime options. */
#include "recipes/model/runtime_options.h"

#include <string.h>

RuntimeOptions runtime_defaults(void)
{
    return (RuntimeOptions){.chunk = 4096, .checkpoint_seconds = 15};
}

static const char *precision_name(int k)
{
    return k <= DTYPE_BF16 ? dtype_name((DType)k) : NULL;
}

void runtime_options(RuntimeTable *t, RuntimeOptions *o)
{
    t->precision = (OptionChoice){&o->dtype, precision_name, &o->dtype_given};
    const Option rows[RUNTIME_OPTIONS] = {
        {"--threads", "N", OPTION_INT, &o->threads, 1, 1024,
         "threads (default: a processor each, fewer while others are busy)"},
        {"--chunk", "N", OPTION_INT, &o->chunk, 1, 1 << 24,
         "rows the output head computes at once (default 4096; never changes results)"},
        {"--matmul", "NAME", OPTION_TEXT, &o->matmul, 0, 0,
         "matrix products by: native, onednn, openblas, or as a table of `r1 bench --tune` says; on a GPU in bf16 by\n"
         "mma (default), mma+cublas (backward by cuBLAS), cublas, or widen (the CPU's bits, slow)"},
        {"--device", "NAME", OPTION_TEXT, &o->device, 0, 0,
         "where to compute: cpu (default), gpu or gpu:K (NVIDIA; in f32 the CPU's bits), emulated (the GPU's code on\n"
         "the CPU, slow) or emulated:checked (races and borders of arrays, slower still)"},
        {"--precision", "TYPE", OPTION_CHOICE, &t->precision, 0, 0,
         "f32, or bf16: weights and activations in bf16, sums, norms, softmax and master weights in f32\n"
         "(default: a recipe's own; for a checkpoint of a run that run's; else f32)"},
        {"--memory", "GB", OPTION_REAL, &o->memory_gb, 0.001, 1e6,
         "budget; layers that do not fit are recomputed in backward, and experts of a model that does not fit are\n"
         "read from its folder as they are needed (default: 70 % of what is free,\n"
         "in a container of what its limit leaves)"},
        {"--checkpoint-seconds", "S", OPTION_REAL, &o->checkpoint_seconds, 0, 1e6,
         "work between checkpoints (default 15)"},
        {"--skip-bad", NULL, OPTION_FLAG, &o->skip_bad, 0, 0, "count and skip broken JSONL lines instead of failing"},
        {"--other-machine", NULL, OPTION_FLAG, &o->other_machine, 0, 0,
         "go on with a state that another kind of machine made, although the weights will be others"},
        {"--base", "DIR", OPTION_TEXT, &o->base, 0, 0,
         "where the model lies now of which a checkpoint holds the trained part alone, or a recipe's model.from, when "
         "it\n"
         "was moved"},
        {"-v", NULL, OPTION_FLAG, &o->verbose, 0, 0, "more about the machine and where the time went"},
    };
    memcpy(t->rows, rows, sizeof rows);
}
