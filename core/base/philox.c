/* Philox4x32-10 and what is drawn from it. */
#include "core/base/philox.h"

#include <math.h>
#include <string.h>

void philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ k[1],
                            (uint32_t)a};
        memcpy(c, next, sizeof c);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

float philox_uniform(uint32_t bits)
{
    return (float)(bits >> 8) * 0x1p-24f;
}

float rng_token(uint32_t seed, RngPurpose purpose, uint32_t stage, uint32_t step, uint32_t prompt, uint32_t sample,
                uint32_t position)
{
    uint32_t out[4], key[2] = {seed, (uint32_t)purpose};
    uint32_t counter[4] = {position, sample, prompt, stage << 24 | (step & 0xFFFFFFu)};
    philox4x32(out, counter, key);
    return philox_uniform(out[0]);
}

Rng rng_stream(uint32_t seed, RngPurpose purpose, uint32_t list, uint64_t index)
{
    Rng r = {{seed, (uint32_t)purpose}, {0, list, (uint32_t)index, (uint32_t)(index >> 32)}, {0}, 4};
    return r;
}

uint32_t rng_u32(Rng *r)
{
    if (r->used == 4) {
        philox4x32(r->block, r->counter, r->key);
        r->counter[0]++;
        r->used = 0;
    }
    return r->block[r->used++];
}

uint32_t rng_below(Rng *r, uint32_t n)
{
    uint32_t bound = -n % n, x; /* 2^32 mod n: values below it would favour small results */
    do x = rng_u32(r);
    while (x < bound);
    return x % n;
}

int rng_range(Rng *r, int lo, int hi)
{
    return lo + (int)rng_below(r, (uint32_t)(hi - lo) + 1u);
}

double rng_double(Rng *r)
{
    uint64_t hi = rng_u32(r) >> 5, lo = rng_u32(r) >> 6;
    return (double)(hi << 26 | lo) * 0x1p-53;
}

uint32_t hash_name(const char *name)
{
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

void rng_fill_normal(float *out, size_t n, float std, uint32_t seed, const char *name)
{
    uint32_t key[2] = {seed, RNG_INIT}, tensor = hash_name(name);
    for (size_t i = 0; i < n; i += 2) {
        uint64_t index = i / 2;
        uint32_t w[4], counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), tensor, 0};
        philox4x32(w, counter, key);
        double u = ((double)((uint64_t)(w[0] >> 5) << 26 | w[1] >> 6) + 0.5) * 0x1p-53; /* in (0, 1) */
        double v = (double)((uint64_t)(w[2] >> 5) << 26 | w[3] >> 6) * 0x1p-53;
        double r = (double)std * sqrt(-2.0 * log(u));
        out[i] = (float)(r * cos(2.0 * M_PI * v));
        if (i + 1 < n) out[i + 1] = (float)(r * sin(2.0 * M_PI * v));
    }
}

void rng_fill_uniform(float *out, size_t n, float bound, uint32_t seed, const char *name)
{
    uint32_t key[2] = {seed, RNG_INIT}, tensor = hash_name(name);
    for (size_t i = 0; i < n; i += 4) {
        uint64_t index = i / 4;
        uint32_t w[4], counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), tensor, 0};
        philox4x32(w, counter, key);
        for (size_t k = 0; k < 4 && i + k < n; k++) out[i + k] = bound * (2.0f * philox_uniform(w[k]) - 1.0f);
    }
}
