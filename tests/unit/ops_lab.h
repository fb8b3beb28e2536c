/* Runs an op on every instruction set and thread count this machine has and compares: same bits everywhere, nothing written
 * outside the outputs; and the numbers against f64 references. */
#ifndef TESTS_UNIT_OPS_LAB_H
#define TESTS_UNIT_OPS_LAB_H

#include "tests/unit/unit.h"

#include "core/ops/ops.h"
#include "cpu/cpu.h"
#include "tests/tolerances.h"

enum { LAB_OUTS = 5 };

/* One output inside a trial's buffer: element (i, j) at at + i * stride + j. cols < stride leaves gaps that must stay. */
typedef struct LabOut {
    size_t at, rows, cols, stride;
} LabOut;

typedef struct LabTrial LabTrial;
struct LabTrial {
    /* Runs the op once; outputs go to lab_mat / lab_at of `out`. */
    void (*run)(const Ops *ops, Backend *b, const LabTrial *t, float *out);
    const void *in;
    LabOut outs[LAB_OUTS];
    int count;
    const float *initial; /* what outputs hold before, in the order of outs, dense; NULL: a pattern */
};

/* cmocka group setup and teardown: opens the backends. */
int lab_open(void **state);
int lab_close(void **state);
/* The same with bf16 products in one form on every backend, and without AVX512_BF16, whose instruction rounds by itself: the
 * bits of a form's definition. */
int lab_open_dot(void **state);
int lab_open_widen(void **state);
/* The emulated GPU alone, bf16 on tensor cores, each of the three tiles of products in another order. */
int lab_open_mma(void **state);
/* The same by cuBLAS. */
int lab_open_cublas(void **state);
/* Whether its plugin is built. */
bool lab_has_emulated(void);
/* What stands for the emulated GPU: $R1_LAB_DEVICE, "emulated" where it is not set (tests/gpu-day.sh says "gpu"); its
 * plugin (NULL and a sentence: not built, no card, or one that cannot read the memory of these tests); and the order of
 * its threads and of queued work, where one can choose (gpu/gpu.h, emulate). */
const char *lab_device(void);
const struct GpuPlugin *lab_plugin(Status *st);
void lab_order(const struct GpuPlugin *plugin, const char *schedule, const char *streams);

/* The backend with the best instruction set and two threads. */
const Ops *lab_ops(void);
Backend *lab_backend(void);

/* Appends an output of rows x cols with `gap` unused columns after each row; returns its number. */
int lab_out(LabTrial *t, size_t rows, size_t cols, size_t gap);
Mat lab_mat(const LabTrial *t, float *out, int number);
float *lab_at(const LabTrial *t, float *out, int number);

/* An output made with lab_out(t, rows, lab_halves(cols), gap), seen as bf16. Half a float is left over where cols is odd. */
static inline size_t lab_halves(size_t cols)
{
    return (cols + 1) / 2;
}
Mat lab_bf16(const LabTrial *t, float *out, int number, size_t cols);

/* Runs on every backend, with and without packed copies, and fails unless all outputs agree bit for bit and nothing else
 * changed. Returns the outputs of the first (free it); address them with lab_mat. */
float *lab_run(const LabTrial *t);

/* The same on one backend, called `name` in messages. */
float *lab_run_on(const Ops *ops, Backend *b, const LabTrial *t, const char *name);

/* n numbers in [-1, 1), a function of seed alone. Caller frees. */
float *lab_random(size_t n, uint64_t seed);
/* The same numbers in double. */
double *lab_doubles(const float *x, size_t n);

/* To the nearest bf16, ties to even, every NaN to one; and back. */
uint16_t lab_round(float x);
float lab_widen(uint16_t half);
/* The bf16 nearest to x[i] and, in place, x[i] = its value. Caller frees. */
uint16_t *lab_rounded(float *x, size_t n);
/* Fails unless got (bf16) is want (f32, dense) rounded, bit for bit. */
void lab_is_rounded(const char *what, Mat got, const float *want);

/* Fails unless |got - want| <= tolerance * max |want| everywhere; want must not be all zero. */
void lab_near(const char *what, Mat got, const double *want, double tolerance);

/* d/dx_i of loss by central differences. x is put back. */
void lab_differences(double (*loss)(const void *context), const void *context, double *x, size_t n, double *gradient);

#endif
