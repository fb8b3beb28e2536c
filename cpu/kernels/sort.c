/* sort_experts: contract in core/ops/ops.h. A counting sort by one thread: each pair is read twice and written twice. */
#include "cpu/internal.h"

void cpu_sort_experts(Backend *b, int32_t *offsets, int32_t *slot, int32_t *rows, const int32_t *idx, int n, int E,
                      int K)
{
    (void)b;
    size_t pairs = (size_t)n * (size_t)K;
    for (int e = 0; e <= E; e++) offsets[e] = 0;
    for (size_t i = 0; i < pairs; i++) offsets[idx[i] + 1]++;
    for (int e = 0; e < E; e++) offsets[e + 1] += offsets[e];
    for (size_t i = 0; i < pairs; i++) {
        int32_t at = offsets[idx[i]]++;
        slot[i] = at;
        rows[at] = (int32_t)(i / (size_t)K);
    }
    for (int e = E; e > 0; e--) offsets[e] = offsets[e - 1];
    offsets[0] = 0;
}
