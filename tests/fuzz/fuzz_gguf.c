/* A .gguf file: metadata, tensors, and the model and the tokenizer that it may hold. */
#include <stdlib.h>

#include "checkpoints/gguf/gguf.h"
#include "core/base/check.h"
#include "tests/fuzz/fuzz.h"

enum { MOST = 1 << 20 };

static void read_model(const GgufFile *f)
{
    Status st = {0};
    ModelConfig config;
    if (!gguf_config(f, "input", &config, &st)) return;
    ParamTable table = params_build(&config);
    float *weights = table.total < MOST ? malloc(table.total * sizeof *weights + 1) : NULL;
    gguf_weights(f, "input", &config, &table, weights, &st);
    free(weights);
    params_free(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Status st = {0}, ignored = {0};
    GgufFile *f = gguf_open(fuzz_file(data, size), &st);
    CHECK(f || st.failed);
    if (!f) return 0;
    for (size_t i = 0; i < gguf_count(f); i++) {
        const GgufTensor *t = gguf_at(f, i);
        float *values = t->count < MOST ? malloc(t->count * sizeof *values + 1) : NULL;
        Status fault = {0};
        if (values) gguf_read_f32(t, 0, t->count, values, &fault);
        free(values);
    }
    read_model(f);
    Tokenizer *t = gguf_tokenizer(f, "input", &ignored);
    if (t) tokenizer_free(t);
    gguf_close(f);
    return 0;
}
