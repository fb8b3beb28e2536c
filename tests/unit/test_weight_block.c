/* Weights in two planes: the f32 is kept whole whatever its bits, its high half is the nearest bf16, and a block's matrices
 * lie in the planes, row after row, nothing else. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/params_select.h"
#include "core/base/philox.h"
#include "core/weights.h"
#include "recipes/model/machine.h"
#include "tests/unit/policy_values.h"

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* n floats of any bits. */
static float *row_of_bits(size_t n, uint32_t seed)
{
    float *row = malloc(n * sizeof *row);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        row[i] = float_of(seed ^ seed >> 15);
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

static void check_values(const float *values, size_t n)
{
    uint16_t *high = malloc((n + 1) * sizeof *high), *low = malloc((n + 1) * sizeof *low), *alone = malloc((n + 1) * 2);
    float *back = malloc((n + 1) * sizeof *back), *rounded = malloc(n * sizeof *rounded);
    high[n] = low[n] = alone[n] = 0x1234;
    back[n] = 7;
    split_values(high, low, values, n);
    split_values(alone, NULL, values, n);
    assert_memory_equal(alone, high, (n + 1) * sizeof *high);
    join_values(back, high, low, n);
    join_values(rounded, high, NULL, n);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits, half;
        memcpy(&bits, values + i, sizeof bits);
        memcpy(&half, rounded + i, sizeof half);
        assert_int_equal(high[i], (uint16_t)((bits + 0x8000u) >> 16));
        assert_int_equal(low[i], bits & 0xffff);
        assert_int_equal(half, (uint32_t)high[i] << 16);
        expect_nearest(values[i], high[i]);
    }
    assert_memory_equal(back, values, n * sizeof *values);
    assert_true(high[n] == 0x1234 && low[n] == 0x1234 && back[n] == 7);
    free(high), free(low), free(alone), free(back), free(rounded);
}

/* By name: zeros, subnormals of both types, the largest numbers, infinities, NaNs with payloads, quiet and not, of both
 * signs. */
static void every_class(void **state)
{
    (void)state;
    static const uint32_t bits[] = {0x00000000, 0x00000001, 0x00007fff, 0x00008000, 0x0000ffff, 0x00010000, 0x007fffff,
                                    0x00800000, 0x3f800000, 0x3f807fff, 0x3f808000, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff,
                                    0x7f800000, 0x7f800001, 0x7f807fff, 0x7f808000, 0x7fa00000, 0x7fc00000, 0x7fffffff};
    enum { N = sizeof bits / sizeof *bits };
    float values[2 * N];
    for (size_t i = 0; i < N; i++) values[2 * i] = float_of(bits[i]), values[2 * i + 1] = float_of(bits[i] | 1u << 31);
    check_values(values, 2 * N);
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
            check_values(row, 2047);
        }
}

static void any_length(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 67, 2047, 2048, 2049, 4095, 5001, 100003};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        float *row = row_of_bits(lengths[i], (uint32_t)i + 1);
        check_values(row, lengths[i]);
        free(row);
    }
}

static WeightBlock room_for(const ParamTable *t, size_t total)
{
    WeightBytes n = weight_bytes(t, total, DTYPE_BF16);
    assert_int_equal(n.high, 2 * total);
    assert_int_equal(n.low, n.high);
    return (WeightBlock){malloc(n.high), malloc(n.low), malloc(n.plain)};
}

static void free_block(WeightBlock b)
{
    free(b.high), free(b.low), free(b.plain);
}

/* Where a matrix begins in the views of a block: bf16 words with nothing between two rows, or f32. */
static void expect_view(const Mat *m, const WeightBlock *b, const Param *p, size_t at)
{
    assert_int_equal(m->dtype, p->split ? DTYPE_BF16 : DTYPE_F32);
    assert_int_equal(m->stride, p->cols);
    assert_ptr_equal(m->p, p->split ? (void *)(b->high + at) : (void *)(b->plain + p->plain));
}

static void block_of(ModelConfig c, int kinds_split, const char *trains)
{
    ParamTable t = params_build(&c);
    if (trains) assert_int_equal(params_select(&t, &trains, 1), -1);
    float *was = calloc(t.total, sizeof *was);
    params_init(&t, &c, was, 1);
    for (int i = 0; i < t.n; i++) rng_fill_normal(was + t.params[i].offset, t.params[i].count, 1, 2, t.params[i].name);
    WeightBlock all = room_for(&t, t.total), states = room_for(&t, t.state_total);
    int split = 0;
    size_t plain = 0;
    for (int i = 0; i < t.n; i++) {
        const Param *p = &t.params[i];
        bool matrix = p->ndim == 2 && p->kind != PARAM_ROUTER && p->kind != PARAM_SCORE;
        assert_int_equal(p->split, matrix);
        split += matrix;
        if (!matrix) {
            assert_true(p->plain >= plain && p->state != SIZE_MAX);
            plain = p->plain + p->count;
        }
        weight_write(&all, p, p->offset, 0, p->count, was + p->offset);
        weight_clear_behind(&all, p, p->offset);
        if (p->state == SIZE_MAX) continue;
        weight_write(&states, p, p->state, 0, p->count / 2, was + p->offset);
        weight_write(&states, p, p->state, p->count / 2, p->count - p->count / 2, was + p->offset + p->count / 2);
        weight_clear_behind(&states, p, p->state);
    }
    assert_int_equal(split, kinds_split);
    assert_true(plain <= t.plain_total && t.plain_total < plain + 16);
    for (int i = 0; i < t.n; i++) {
        const Param *p = &t.params[i];
        float *row = malloc((p->count + 1) * sizeof *row);
        row[p->count] = 7;
        weight_read(&all, p, p->offset, 0, p->count, row);
        assert_memory_equal(row, was + p->offset, p->count * sizeof *row);
        if (p->state != SIZE_MAX) weight_read(&states, p, p->state, 1, p->count - 1, row);
        if (p->state != SIZE_MAX) assert_memory_equal(row, was + p->offset + 1, (p->count - 1) * sizeof *row);
        assert_true(row[p->count] == 7);
        free(row);
    }
    Weights w = weights_view(&c, &t, &all), beside = weights_view_beside(&c, &t, &all, &states);
    for (int l = 0; l < c.L; l++) {
        const Param *o = &t.params[params_find(&t, PARAM_O, l, -1)];
        expect_view(&w.layers[l].o, &all, o, o->offset);
        bool own = o->state != SIZE_MAX;
        expect_view(&beside.layers[l].o, own ? &states : &all, o, own ? o->state : o->offset);
        if (!config_is_moe(&c, l)) continue;
        const Param *router = &t.params[params_find(&t, PARAM_ROUTER, l, -1)],
                    *up = &t.params[params_find(&t, PARAM_EXPERT_GATE, l, 1)];
        expect_view(&w.layers[l].router, &all, router, 0);
        expect_view(&beside.layers[l].router, &states, router, 0);
        expect_view(&w.layers[l].expert_gate_up[1], &all, up, up->offset);
        assert_int_equal(w.layers[l].expert_gate_up[1].rows, 2 * up->rows);
    }
    weights_free(&w), weights_free(&beside);
    free_block(all), free_block(states);
    free(was);
    params_free(&t);
}

static const ModelConfig v3 = {.arch = ARCH_DEEPSEEK_V3,
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
static const ModelConfig qwen = {.arch = ARCH_QWEN3,
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

static void whole_blocks(void **state)
{
    (void)state;
    /* Embedding and head; q_a, q_b, kv_a, kv_b, o of two layers; one MLP; five experts and the shared one. */
    for (int k = 0; k < 2; k++) {
        block_of(v3, 2 + 2 * 5 + 3 + 6 * 3, k ? "experts.1" : NULL);
        block_of(qwen, 1 + 2 * (4 + 3), k ? "layers.1.self_attn" : NULL);
    }
}

static bool value_of(void *block, const Param *q, float *out, Status *st)
{
    (void)st;
    memcpy(out, (const float *)block + q->offset, q->count * sizeof *out);
    return true;
}

static bool no_value(void *block, const Param *q, float *out, Status *st)
{
    return q->kind == PARAM_HEAD ? fail(st, "gone") : value_of(block, q, out, st);
}

/* What a policy says of its weights, of its reference and of the copy that samples for it is what it was given. */
static void of_policies(void **state)
{
    (void)state;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        Machine m;
        Status st = {0};
        RuntimeOptions o = runtime_defaults();
        o.dtype = bf16 ? DTYPE_BF16 : DTYPE_F32;
        if (!machine_open(&m, &o, &st)) fail_msg("%s", st.text);
        ParamTable t = params_build(&v3);
        float *given = memory_block(t.total * sizeof *given), *was = malloc(t.total * sizeof *was);
        params_init(&t, &v3, given, 5);
        memcpy(was, given, t.total * sizeof *was);
        Policy *p = policy_new(machine_engine(&m), &v3, 0, given);
        assert_true(!p->weights.high == !bf16 && !p->weights.low == !bf16);
        policy_reference_set(p);
        float *has = policy_values(p), *reference = policy_reference_values(p);
        assert_memory_equal(has, was, t.total * sizeof *was);
        assert_memory_equal(reference, was, t.total * sizeof *was);
        Policy *half = policy_that_samples(p, true);
        const WeightBlock *w = &half->weights;
        assert_true(w->high && !w->low == !bf16);
        for (int i = 0; i < t.n; i++) {
            const Param *q = &t.params[i];
            uint16_t *high = malloc(q->count * sizeof *high);
            split_values(high, NULL, was + q->offset, q->count);
            if (q->split) assert_memory_equal(w->high + q->offset, high, q->count * sizeof *high);
            else assert_memory_equal(w->plain + q->plain, was + q->offset, q->count * sizeof *was);
            free(high);
        }
        Policy *frozen = policy_frozen(machine_engine(&m), &v3, value_of, was, &st);
        assert_true(frozen && !frozen->weights.high == !bf16 && !frozen->weights.low);
        for (int i = 0; i < t.n; i++) {
            const Param *q = &t.params[i];
            size_t each = bf16 && q->split ? sizeof(uint16_t) : sizeof(float);
            const void *want = weight_at(&p->weights, q, q->offset), *its = weight_at(&frozen->weights, q, q->offset);
            assert_memory_equal(its, want, q->count * each);
        }
        policy_free(frozen);
        assert_null(policy_frozen(machine_engine(&m), &v3, no_value, was, &st));
        assert_true(st.failed);
        status_clear(&st);
        memory_free(has), memory_free(reference), free(was);
        policy_free(p);
        params_free(&t);
        machine_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_class), cmocka_unit_test(every_upper_half),
                                       cmocka_unit_test(any_length), cmocka_unit_test(whole_blocks),
                                       cmocka_unit_test(of_policies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
