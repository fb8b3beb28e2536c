/* Sizes and views of stored moments. */
#include "core/moments.h"

const char *moment_form_name(int k)
{
    static const char *const names[] = {"f32", "bf16", "8bit", NULL};
    return names[k];
}

static size_t aligned(size_t bytes)
{
    return (bytes + MOMENT_ALIGN - 1) / MOMENT_ALIGN * MOMENT_ALIGN;
}

size_t moment_scales_at(size_t count)
{
    return aligned(count);
}

size_t moment_bytes(MomentForm form, size_t count)
{
    if (form == MOMENTS_F32) return aligned(count * sizeof(float));
    if (form == MOMENTS_BF16) return aligned(count * sizeof(uint16_t));
    return moment_scales_at(count) + aligned((count + MOMENT_BLOCK - 1) / MOMENT_BLOCK * sizeof(float));
}

StoredMoments moments_view(MomentForm form, void *m, void *v, size_t count, size_t from)
{
    size_t width = form == MOMENTS_8BIT ? 1 : sizeof(uint16_t), block = from / MOMENT_BLOCK,
           at = moment_scales_at(count);
    StoredMoments s = {.form = form, .m = (char *)m + from * width, .v = (char *)v + from * width};
    if (form != MOMENTS_8BIT) return s;
    s.m_scale = (float *)(void *)((char *)m + at) + block;
    s.v_scale = (float *)(void *)((char *)v + at) + block;
    return s;
}

const MomentCodes *moment_codes(void)
{
    static MomentCodes codes;
    if (codes.value[0][MOMENT_CODES - 1] > 0.0f) return &codes;
    for (int s = 0; s < 2; s++) {
        for (int k = 0; k < MOMENT_CODES; k++) codes.value[s][k] = moment_code(s, k);
        for (int k = 0; k + 1 < MOMENT_CODES; k++) codes.border[s][k] = moment_border(s, k);
    }
    return &codes;
}
