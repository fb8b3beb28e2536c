/* The language of gpu/kernels: CUDA C++17 under nvcc, and the same sources under gpu/emu on the CPU. Besides CUDA's own words:
 *   LAUNCH(kernel, grid, block, shared, stream, arguments...): nothing where stream is NULL (internal.h)
 *   ALLOW_SHARED(kernel, bytes): more than 48 KB of dynamic memory
 *   SMEM(type, name, [dims])   DSMEM(type, name)                static and dynamic shared memory
 *   shuffle_xor4   pack_bf16   mma16816   load_matrix4(_trans)   copy_async16, _commit, _wait<LEFT>
 *
 * What may not be said (poisoned below):
 *  - atomics: their order is that of the hardware's day, and a sum of floats would differ from run to run;
 *  - anything between blocks of one launch (fences, flags, cooperative groups): a sum over blocks is a second launch. Then blocks
 *    one after another, as under emulation, show all that can happen;
 *  - fast forms of functions (__expf, rsqrtf, fdividef) and fmaxf / fminf, whose bits or NaNs are not the CPU's. */
#ifndef GPU_KERNEL_H
#define GPU_KERNEL_H

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#define START(kernel, grid, block, shared, stream, ...) (kernel)<<<(grid), (block), (shared), (stream)>>>(__VA_ARGS__)
#define ALLOW_SHARED(kernel, bytes)                                                                                    \
    cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))
#define SMEM(type, name, dims) __shared__ __align__(16) type name dims
#define DSMEM(type, name)                                                                                              \
    extern __shared__ __align__(128) unsigned char dynamic_shared[];                                                   \
    type *name = reinterpret_cast<type *>(dynamic_shared)

static __device__ __forceinline__ float4 shuffle_xor4(float4 v, int with)
{
    return make_float4(__shfl_xor_sync(0xffffffffu, v.x, with), __shfl_xor_sync(0xffffffffu, v.y, with),
                       __shfl_xor_sync(0xffffffffu, v.z, with), __shfl_xor_sync(0xffffffffu, v.w, with));
}

/* The nearest bf16 of each, the first in the low half. */
static __device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

static __device__ __forceinline__ void mma16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ void load_matrix4(uint32_t (&r)[4], const void *row)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

static __device__ __forceinline__ void load_matrix4_trans(uint32_t (&r)[4], const void *row)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

static __device__ __forceinline__ void copy_async16(void *to, const void *from, bool there)
{
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    int bytes = there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}

static __device__ __forceinline__ void copy_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int LEFT> static __device__ __forceinline__ void copy_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}
#else
#include "gpu/emu/emu.h"
#endif

#define LAUNCH(kernel, grid, block, shared, stream, ...)                                                               \
    do {                                                                                                               \
        if (stream) START(kernel, grid, block, shared, stream, __VA_ARGS__);                                           \
    } while (0)

#define DEVICE static __device__ __forceinline__

#pragma GCC poison atomicAdd atomicSub atomicExch atomicMin atomicMax atomicInc atomicDec atomicCAS atomicAnd atomicOr
#pragma GCC poison atomicXor __threadfence __threadfence_system cooperative_groups __nanosleep
#pragma GCC poison __expf __logf __fdividef fdividef rsqrtf __frsqrt_rn fmaxf fminf __fmaf_rz

#endif
