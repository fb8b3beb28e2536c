/* Split storage: the f32 is kept whole whatever its bits, its high half is the nearest bf16, and a block's matrices are split,
 * nothing else. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"
#include "core/base/philox.h"
#include "core/split_master.h"

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* n floats of any bits, a guard after them. */
static float *row_of_bits(size_t n, uint32_t seed)
{
    float *row = malloc((n + 1) * sizeof *row);
    for (size_t i = 0; i <= n; i++) {
        seed = seed * 1664525u + 1013904223u;
        row[i] = float_of(i == n ? 0x12345678u : seed ^ seed >> 15);
    }
    return row;
}

/* Of the bf16 below and above x none is nearer than what the row holds. */
static void expect_nearest(float x, uint16_t high)
{
    if (isnan(x)) return;
    double held = (double)float_of((uint32_t)high << 16), distance = fabs(held - (double)x);
    if (isinf(x)) {
        assert_true(held == (double)x);
        return;
    }
    if (isinf(held)) { /* beyond the largest bf16 by half a step or more */
        assert_true(fabs((double)x) >= 0x1.ffp127 && !signbit(held) == !signbit(x));
        return;
    }
    for (int step = -1; step <= 1; step += 2) {
        double other = (double)float_of((uint32_t)(uint16_t)(high + step) << 16);
        if (isfinite(other) && fabs(other - (double)x) < distance) fail_msg("%.9g is held as %.9g", (double)x, held);
    }
}

static void check_row(float *row, size_t n)
{
    float *was = malloc((n + 1) * sizeof *was), *apart = malloc((n + 1) * sizeof *apart);
    memcpy(was, row, (n + 1) * sizeof *was);
    apart[n] = float_of(0x9abcdef0u);
    split_row(row, n);
    const uint16_t *half = (const uint16_t *)row;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, was + i, sizeof bits);
        assert_int_equal(half[i], (uint16_t)((bits + 0x8000u) >> 16));
        assert_int_equal(half[n + i], bits & 0xffff);
        expect_nearest(was[i], half[i]);
    }
    join_row(apart, row, n);
    assert_memory_equal(apart, was, n * sizeof *was);
    join_row(row, row, n);
    assert_memory_equal(row, was, (n + 1) * sizeof *was);
    uint32_t guard;
    memcpy(&guard, apart + n, sizeof guard);
    assert_int_equal(guard, 0x9abcdef0u);
    free(was), free(apart);
}

/* Every upper half with lower halves around the places where it rounds. */
static void every_upper_half(void **state)
{
    (void)state;
    static const uint32_t lows[] = {0, 1, 0x1234, 0x7fff, 0x8000, 0x8001, 0xffff};
    float row[2048];
    for (int l = 0; l < 7; l++)
        for (uint32_t high = 0; high < 65536; high += 2047) {
            for (uint32_t i = 0; i < 2047; i++) row[i] = float_of((high + i) << 16 | lows[l]);
            row[2047] = 0;
            check_row(row, 2047);
        }
}

static void any_length(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 67, 2047, 2048, 2049, 4095, 5001, 100003};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        float *row = row_of_bits(lengths[i], (uint32_t)i + 1);
        check_row(row, lengths[i]);
        free(row);
    }
}

static void block_of(ModelConfig c, int kinds_split)
{
    ParamTable t = params_build(&c);
    size_t bytes = t.total * sizeof(float);
    float *block = calloc(1, bytes), *was = malloc(bytes);
    params_init(&t, &c, block, 1);
    for (int i = 0; i < t.n; i++)
        rng_fill_normal(block + t.params[i].offset, t.params[i].count, 1, 2, t.params[i].name);
    memcpy(was, block, bytes);
    split_block(&t, block);
    int split = 0;
    size_t end = 0;
    for (int i = 0; i < t.n; i++) {
        const Param *p = &t.params[i];
        assert_memory_equal(block + end, was + end, (p->offset - end) * sizeof(float)); /* between two: untouched */
        end = p->offset + p->count;
        bool matrix = p->ndim == 2 && p->kind != PARAM_ROUTER && p->kind != PARAM_SCORE;
        if (!matrix) {
            assert_memory_equal(block + p->offset, was + p->offset, p->count * sizeof(float));
            continue;
        }
        split++;
        for (size_t r = 0; r < p->rows; r++) {
            float *row = malloc(p->cols * sizeof *row);
            join_row(row, block + p->offset + r * p->cols, p->cols);
            assert_memory_equal(row, was + p->offset + r * p->cols, p->cols * sizeof *row);
            const uint16_t *half = (const uint16_t *)(block + p->offset + r * p->cols);
            expect_nearest(was[p->offset + r * p->cols + p->cols - 1], half[p->cols - 1]);
            free(row);
        }
    }
    assert_int_equal(split, kinds_split);
    join_block(&t, block);
    assert_memory_equal(block, was, bytes);
    free(block), free(was);
    params_free(&t);
}

static void whole_blocks(void **state)
{
    (void)state;
    ModelConfig v3 = {.arch = ARCH_DEEPSEEK_V3,
                      .attention = ATTENTION_MLA,
                      .V = 11,
                      .C = 5,
                      .L = 2,
                      .H = 3,
                      .Hkv = 3,
                      .Rq = 7,
                      .Rkv = 3,
                      .Dn = 3,
                      .Dr = 2,
                      .Dv = 1,
                      .F = 7,
                      .E = 5,
                      .S = 1,
                      .K = 2,
                      .moe_F = 3,
                      .first_dense = 1,
                      .moe_freq = 1,
                      .topk = TOPK_NOAUX,
                      .n_group = 1,
                      .topk_group = 1,
                      .init_std = 0.5f};
    ModelConfig qwen = {.arch = ARCH_QWEN3,
                        .attention = ATTENTION_GQA,
                        .V = 13,
                        .C = 9,
                        .L = 2,
                        .H = 4,
                        .Hkv = 2,
                        .Dr = 6,
                        .Dv = 6,
                        .qk_norm = true,
                        .F = 11,
                        .tied = true,
                        .init_std = 0.5f};
    /* Embedding and head; q_a, q_b, kv_a, kv_b, o of two layers; one MLP; five experts and the shared one. */
    block_of(v3, 2 + 2 * 5 + 3 + 6 * 3);
    block_of(qwen, 1 + 2 * (4 + 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_upper_half), cmocka_unit_test(any_length),
                                       cmocka_unit_test(whole_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
