/* A user's JSONL data set: strict, and leaving broken lines out; every row becomes a problem that is judged. */
#include <stdlib.h>

#include "core/base/check.h"
#include "data/corpus.h"
#include "data/sandbox/code_tests.h"
#include "tests/fuzz/fuzz.h"

static void use(const Dataset *d)
{
    for (int i = 0; i < d->n; i++) {
        Problem p;
        dataset_problem(&p, d, i % 2 ? SPLIT_TEST : SPLIT_TRAIN, (uint64_t)i);
        if (p.verifier != VERIFIER_TESTS) task_verify(&p, "<think>a</think><answer>3*7+5</answer>", false);
        else free(code_program(p.answer)); /* nothing is run here */
        problem_free(&p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    for (int skip = 0; skip < 2; skip++) {
        Status st = {0};
        Dataset *d = dataset_read(path, 0.2, skip, &st);
        CHECK(d || st.failed);
        if (!d) continue;
        use(d);
        dataset_free(d);
    }
    return 0;
}
