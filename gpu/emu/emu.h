/* The kernel language for a host compiler: what gpu/kernel.h offers on a device, so that the same sources run here. Exact in
 * integers, f32 and f64, in the lane layout of mma and ldmatrix, in memory spaces and in the order of streams. Not shown: time,
 * the rounding inside a tensor-core product (here one multiply-add after another, k ascending). */
#ifndef GPU_EMU_EMU_H
#define GPU_EMU_EMU_H

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>

#if defined(EMU_NVIDIA_HEADERS)
#include <cuda_runtime_api.h>
#else
#include "gpu/emu/cuda_runtime_api.h"
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c)
    {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)    __attribute__((aligned(n)))
#define __restrict__ __restrict
#endif
#define __launch_bounds__(...)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

static inline float4 make_float4(float a, float b, float c, float d)
{
    return float4{a, b, c, d};
}

static inline float2 make_float2(float a, float b)
{
    return float2{a, b};
}

static inline unsigned __float_as_uint(float f)
{
    unsigned u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float __uint_as_float(unsigned u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

struct __nv_bfloat16 {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 h)
{
    return __uint_as_float((unsigned)h.bits << 16);
}

static inline __nv_bfloat16 __float2bfloat16(float f)
{
    unsigned u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return __nv_bfloat16{0x7fff};
    return __nv_bfloat16{(uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
}

namespace emu
{

struct Site {
    const char *file;
    int line;
};
/* Plain default arguments: inside braces GCC 12 gives the line of the declaration. */
#define EMU_AT   int at_line = __builtin_LINE(), const char *at_file = __builtin_FILE()
#define EMU_SITE (::emu::Site{at_file, at_line})

/* All threads of the block that have not left meet; gives how many of them brought a value that is not 0. */
int block_meet(Site site, int value);

/* The lanes of `mask` meet with a record each; the last one runs finish(records by lane, mask) for all. */
typedef void Finish(void **records, unsigned mask);
enum Meeting { SHUFFLE, BALLOT, SYNC, MMA, LDMATRIX, LDMATRIX_TRANS };
void warp_meet(unsigned mask, Meeting what, Site site, void *record, Finish *finish);
unsigned lane();
void lane_fault(const char *what, Site site);

void *shared_static(const void *key, size_t bytes, size_t align, const char *name);
void *shared_dynamic();

/* A copy of 16 bytes into shared memory that lands when it is waited for; from NULL: zeros. */
void copy_async(void *to, const void *from, Site site);
void copy_commit();
void copy_wait(int left);

bool launch_possible(dim3 grid, dim3 block, size_t shared, const void *kernel);
void launch(dim3 grid, dim3 block, size_t shared, cudaStream_t stream, const char *name,
            std::shared_ptr<void> arguments, size_t bytes, void (*invoke)(void *));
cudaError_t allow_shared(const void *kernel, size_t bytes);

template <class... P> struct Arguments {
    void (*kernel)(P...);
    std::tuple<P...> values;
};

/* Arguments are converted to the kernel's types and copied here, as a launch does. */
template <class... P, class... A>
void launch_kernel(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   A &&...a)
{
    typedef Arguments<P...> All;
    if (!launch_possible(grid, block, shared, (const void *)kernel)) return;
    auto all = std::make_shared<All>(All{kernel, std::tuple<P...>(static_cast<P>(a)...)});
    launch(grid, block, shared, stream, name, all, sizeof *all, [](void *p) {
        All *x = (All *)p;
        std::apply(x->kernel, x->values);
    });
}

template <class T> struct Shuffle {
    T value, result;
    int from;
};

template <class T> void shuffle_finish(void **records, unsigned mask)
{
    for (unsigned l = 0; l < 32; l++) {
        if (!(mask >> l & 1u)) continue;
        Shuffle<T> *me = (Shuffle<T> *)records[l];
        if (mask >> me->from & 1u) {
            me->result = ((Shuffle<T> *)records[me->from])->value;
        } else {
            memset(&me->result, 0xff, sizeof(T));
            lane_fault("a shuffle reads a lane that is not in its mask", Site{"", 0});
        }
    }
}

template <class T> T shuffle(unsigned mask, T value, int from, Site site)
{
    Shuffle<T> record{value, value, from};
    warp_meet(mask, SHUFFLE, site, &record, shuffle_finish<T>);
    return record.result;
}

struct Vote {
    bool value;
    unsigned result;
};

inline void vote_finish(void **records, unsigned mask)
{
    unsigned set = 0;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1u && ((Vote *)records[l])->value) set |= 1u << l;
    for (unsigned l = 0; l < 32; l++)
        if (mask >> l & 1u) ((Vote *)records[l])->result = set;
}

inline float half_of(uint32_t pair, int which)
{
    return __uint_as_float(which ? pair & 0xffff0000u : pair << 16);
}

struct Mma {
    float *d;
    const uint32_t *a;
    uint32_t b0, b1;
};

/* Lane layout of mma.m16n8k16 (PTX ISA): group g = lane / 4 owns rows g and g + 8, lane % 4 the column pair. */
inline void mma_finish(void **records, unsigned)
{
    float A[16][16], B[16][8], C[16][8];
    for (int l = 0; l < 32; l++) {
        Mma *r = (Mma *)records[l];
        int g = l >> 2, t = l & 3;
        for (int i = 0; i < 8; i++)
            A[g + ((i >> 1 & 1) ? 8 : 0)][t * 2 + (i & 1) + (i >= 4 ? 8 : 0)] = half_of(r->a[i >> 1], i & 1);
        for (int i = 0; i < 4; i++) B[t * 2 + (i & 1) + (i >= 2 ? 8 : 0)][g] = half_of(i >> 1 ? r->b1 : r->b0, i & 1);
        for (int i = 0; i < 4; i++) C[g + (i >= 2 ? 8 : 0)][t * 2 + (i & 1)] = r->d[i];
    }
    for (int i = 0; i < 16; i++)
        for (int k = 0; k < 16; k++)
            for (int j = 0; j < 8; j++) C[i][j] += A[i][k] * B[k][j];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) ((Mma *)records[l])->d[i] = C[(l >> 2) + (i >= 2 ? 8 : 0)][(l & 3) * 2 + (i & 1)];
}

struct LoadMatrix {
    const void *row;
    uint32_t *out;
};

/* Four 8 x 8 matrices; lane 8 q + i gives the address of row i of matrix q. */
inline void load_matrix_finish(void **records, unsigned)
{
    for (int q = 0; q < 4; q++)
        for (int l = 0; l < 32; l++) {
            LoadMatrix *from = (LoadMatrix *)records[q * 8 + l / 4];
            memcpy(&((LoadMatrix *)records[l])->out[q], (const char *)from->row + l % 4 * 4, 4);
        }
}

inline void load_matrix_trans_finish(void **records, unsigned)
{
    for (int q = 0; q < 4; q++)
        for (int l = 0; l < 32; l++) {
            uint16_t half[2];
            for (int e = 0; e < 2; e++) {
                LoadMatrix *from = (LoadMatrix *)records[q * 8 + l % 4 * 2 + e];
                memcpy(&half[e], (const char *)from->row + l / 4 * 2, 2);
            }
            ((LoadMatrix *)records[l])->out[q] = half[0] | (uint32_t)half[1] << 16;
        }
}

} // namespace emu

static inline void __syncthreads(EMU_AT)
{
    emu::block_meet(EMU_SITE, 0);
}

static inline int __syncthreads_count(int value, EMU_AT)
{
    return emu::block_meet(EMU_SITE, value != 0);
}

template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int with, EMU_AT)
{
    return emu::shuffle(mask, value, (int)emu::lane() ^ with, EMU_SITE);
}

template <class T> static inline T __shfl_sync(unsigned mask, T value, int from, EMU_AT)
{
    return emu::shuffle(mask, value, from & 31, EMU_SITE);
}

template <class T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, EMU_AT)
{
    int me = (int)emu::lane(), from = me - (int)by;
    return emu::shuffle(mask, value, from < 0 ? me : from, EMU_SITE);
}

template <class T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, EMU_AT)
{
    int me = (int)emu::lane(), from = me + (int)by;
    return emu::shuffle(mask, value, from > 31 ? me : from, EMU_SITE);
}

static inline unsigned __ballot_sync(unsigned mask, int value, EMU_AT)
{
    emu::Vote record{value != 0, 0};
    emu::warp_meet(mask, emu::BALLOT, EMU_SITE, &record, emu::vote_finish);
    return record.result;
}

static inline int __any_sync(unsigned mask, int value, EMU_AT)
{
    return __ballot_sync(mask, value, at_line, at_file) != 0;
}

static inline int __all_sync(unsigned mask, int value, EMU_AT)
{
    return __ballot_sync(mask, !value, at_line, at_file) == 0;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, EMU_AT)
{
    emu::Vote record{false, 0};
    emu::warp_meet(mask, emu::SYNC, EMU_SITE, &record, emu::vote_finish);
}

/* One meeting for all four values: on a device these are four shuffles. */
static inline float4 shuffle_xor4(float4 v, int with, EMU_AT)
{
    return emu::shuffle(0xffffffffu, v, (int)emu::lane() ^ with, EMU_SITE);
}

static inline uint32_t pack_bf16(float low, float high)
{
    return __float2bfloat16(low).bits | (uint32_t)__float2bfloat16(high).bits << 16;
}

static inline void mma16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, EMU_AT)
{
    emu::Mma record{d, a, b0, b1};
    emu::warp_meet(0xffffffffu, emu::MMA, EMU_SITE, &record, emu::mma_finish);
}

static inline void load_matrix4(uint32_t (&r)[4], const void *row, EMU_AT)
{
    if ((uintptr_t)row & 15u) emu::lane_fault("ldmatrix: a row is not at a multiple of 16 bytes", EMU_SITE);
    emu::LoadMatrix record{row, r};
    emu::warp_meet(0xffffffffu, emu::LDMATRIX, EMU_SITE, &record, emu::load_matrix_finish);
}

static inline void load_matrix4_trans(uint32_t (&r)[4], const void *row, EMU_AT)
{
    if ((uintptr_t)row & 15u) emu::lane_fault("ldmatrix: a row is not at a multiple of 16 bytes", EMU_SITE);
    emu::LoadMatrix record{row, r};
    emu::warp_meet(0xffffffffu, emu::LDMATRIX_TRANS, EMU_SITE, &record, emu::load_matrix_trans_finish);
}

static inline void copy_async16(void *to, const void *from, bool there, EMU_AT)
{
    emu::copy_async(to, there ? from : nullptr, EMU_SITE);
}

static inline void copy_async_commit()
{
    emu::copy_commit();
}

template <int LEFT> static inline void copy_async_wait()
{
    emu::copy_wait(LEFT);
}

#define START(kernel, grid, block, shared, stream, ...)                                                                \
    ::emu::launch_kernel(#kernel, kernel, (grid), (block), (shared), (stream), ##__VA_ARGS__)
#define ALLOW_SHARED(kernel, bytes) ::emu::allow_shared((const void *)(kernel), (bytes))
#define SMEM(type, name, dims)                                                                                         \
    typedef type name##_type dims;                                                                                     \
    static const char name##_key = 0;                                                                                  \
    name##_type &name = *(name##_type *)::emu::shared_static(&name##_key, sizeof(name##_type), alignof(type), #name)
#define DSMEM(type, name) type *name = (type *)::emu::shared_dynamic()

#endif
