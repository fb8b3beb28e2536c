/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11, "Parallel random numbers: as easy as 1, 2, 3").
 *
 * A number is a function of (key, counter) only, so a sample never depends on its neighbours, on threads or on what was
 * drawn before, and nothing but the counters has to be saved. key = (seed, purpose); counter = (position, sample,
 * prompt index, stage and step). */
#ifndef CORE_PHILOX_H
#define CORE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

typedef enum { RNG_INIT = 1, RNG_DATA = 2, RNG_ROLLOUT = 3, RNG_EVAL = 4, RNG_MOMENTS = 5 } RngPurpose;

/* out[4] = Philox4x32-10(counter[4], key[2]). */
void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* Uniform f32 in [0, 1) with 24 random bits: (bits >> 8) * 2^-24. */
float philox_uniform(uint32_t bits);

/* The uniform that picks the token at `position` of sample `sample` of prompt `prompt` (a refill is a new prompt index)
 * in step `step` of stage number `stage` (stage < 256, step < 2^24). */
float rng_token(uint32_t seed, RngPurpose purpose, uint32_t stage, uint32_t step, uint32_t prompt, uint32_t sample,
                uint32_t position);

/* A stream for generators of data: numbers come in order, the state is (key, counter) and can be copied. */
typedef struct Rng {
    uint32_t key[2], counter[4], block[4];
    int used; /* words of block already handed out; 4 = make a new block */
} Rng;

/* The stream of item `index` of list `list` (a task, a split, a stage: any 32-bit name) under `seed` and `purpose`. */
Rng rng_stream(uint32_t seed, RngPurpose purpose, uint32_t list, uint64_t index);
uint32_t rng_u32(Rng *r);
/* Uniform integer in [0, n), n >= 1, without bias (rejection). */
uint32_t rng_below(Rng *r, uint32_t n);
/* Uniform integer in [lo, hi]. */
int rng_range(Rng *r, int lo, int hi);
/* Uniform f64 in [0, 1) with 53 bits. */
double rng_double(Rng *r);

/* out[n] = std * normal deviates for tensor `name` under `seed` (Box-Muller in f64 on Philox words, element i uses
 * counter i / 2): keyed by the tensor's name, so that adding a tensor changes no other. */
void rng_fill_normal(float *out, size_t n, float std, uint32_t seed, const char *name);

/* out[n] = uniform in [-bound, bound) for tensor `name` under `seed`, 24 bits each; element i uses counter i / 4. */
void rng_fill_uniform(float *out, size_t n, float bound, uint32_t seed, const char *name);

/* FNV-1a, 32 bits: how a name becomes a key. */
uint32_t hash_name(const char *name);

#endif
