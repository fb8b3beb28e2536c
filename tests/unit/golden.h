/* A case of tests/golden on the CPU backend: its model, its batch and what the reference implementation answered; and
 * the comparisons its README states. A comparison that fails names the tensor and the error and fails the running test.
 */
#ifndef TESTS_UNIT_GOLDEN_H
#define TESTS_UNIT_GOLDEN_H

#include "checkpoints/hf/safetensors.h"
#include "data/json.h"
#include "core/batches.h"
#include "core/policy.h"
#include "recipes/model/machine.h"

typedef struct Golden {
    Machine machine;
    Policy *policy;
    Json *about;        /* case.json */
    StFile *expected;   /* expected.safetensors */
    BatchBuilder batch; /* the three sequences, every token but the first predicted */
    float *weight;      /* [M] 1 / M */
} Golden;

/* Opens tests/golden/MODEL; what is expected comes from tests/golden/CASE (the same folder for model cases). */
void golden_open(Golden *g, const char *model, const char *expected);
/* The same with the model in that precision, on that device (NULL: the CPU). */
void golden_open_as(Golden *g, const char *model, const char *expected, DType precision, const char *device);
void golden_close(Golden *g);
/* Another file of the case's kind, "v2_lite/expected_balance.safetensors". */
StFile *golden_file(const char *name);

/* The tensor of that name (printf); fails the test when it is missing, or of another type. */
const StTensor *golden_tensor(const StFile *f, const char *name);
const float *golden_floats(const StFile *f, size_t *n, const char *format, ...) __attribute__((format(printf, 3, 4)));
const int32_t *golden_ints(const StFile *f, size_t *n, const char *format, ...) __attribute__((format(printf, 3, 4)));
double golden_scalar(const StFile *f, const char *name);
/* about.A.B as a number. */
double golden_number(const Json *about, const char *a, const char *b);

/* Largest absolute difference; relative L2 error |got - want| / |want| (want of zeros: got must be zeros); equality. */
void expect_close(const char *name, const float *got, const float *want, size_t n, double tolerance);
void expect_relative(const char *name, const float *got, const float *want, size_t n, double tolerance);
void expect_number(const char *name, double got, double want, double tolerance);
void expect_ints(const char *name, const int32_t *got, const int32_t *want, size_t n);

/* Every tensor PREFIX + NAME of f against the policy's gradients; all: every trained parameter must be there. Returns
 * how many were compared. */
int expect_gradients(const Golden *g, const StFile *f, const char *prefix, bool all);

#endif
