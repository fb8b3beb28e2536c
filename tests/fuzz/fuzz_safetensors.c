/* A .safetensors file: header, every tensor's values. */
#include <stdlib.h>

#include "checkpoints/hf/safetensors.h"
#include "core/base/check.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Status st = {0};
    StFile *f = st_open(fuzz_file(data, size), &st);
    CHECK(f || st.failed);
    for (size_t i = 0; f && i < st_count(f); i++) {
        const StTensor *t = st_at(f, i);
        CHECK(st_find(f, t->name) == t);
        float *values = malloc(t->count * sizeof *values + 1);
        Status ignored = {0};
        CHECK(values && t->bytes <= size); /* every value lies in the file */
        st_read_f32(t, values, &ignored);
        free(values);
    }
    if (f) st_close(f);
    return 0;
}
