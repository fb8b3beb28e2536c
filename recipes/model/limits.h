/* What a machine can do at most: work that reaches one limit (cpu/limits.h, or a plugin's probes), and its rates. */
#ifndef RECIPES_LIMITS_H
#define RECIPES_LIMITS_H

#include "recipes/model/machine.h"

/* Largest values seen so far, a second: FLOPs on all threads by dtype (bf16: of the fastest way this processor has), bytes read
 * from memory, bytes read and written by an update in place ("copy"). */
typedef struct Peaks {
    double flops[2], read, copy; /* flops: by DType */
} Peaks;

typedef struct Limits {
    double (*fma)(Backend *b, long rounds);
    double (*bf16)(Backend *b, long rounds);
    double (*read)(Backend *b, const float *x, size_t n);
    double (*update)(Backend *b, float *x, size_t n);
    long rounds;
    size_t floats;  /* of the memory that is read; too large for any cache */
    bool emulated;  /* its times mean nothing: said once, on standard error */
    char name[256]; /* of the processor or card */
} Limits;

/* Of the machine's backend. */
bool limits_of(Limits *out, const Machine *m, Status *st);
/* A block of l->floats of the device, zeros; free it with the device's free. */
float *limits_block(const Limits *l, const Machine *m, Status *st);
/* Every limit three times; *peaks keeps the largest ever. b: the machine's backend, or what lies under its clock. */
void limits_probe(const Limits *l, const Machine *m, Backend *b, float *block, Peaks *peaks);

#endif
