/* The routing gap: choices by hand, a planted difference of two policies, none between a policy and itself. */
#include <math.h>
#include <string.h>

#include "recipes/model/machine.h"
#include "recipes/stages/rl_routing.h"
#include "tests/unit/unit.h"

static void choices(void **state)
{
    (void)state;
    const int32_t a[3] = {1, 4, 6}, same[3] = {1, 4, 6}, one[3] = {1, 5, 6}, two[3] = {0, 1, 7}, all[3] = {0, 2, 7};
    assert_int_equal(routing_differs(a, same, 3), 0);
    assert_int_equal(routing_differs(a, one, 3), 1);
    assert_int_equal(routing_differs(a, two, 3), 2);
    assert_int_equal(routing_differs(a, all, 3), 3);
}

static const ModelConfig moe = {.arch = ARCH_DEEPSEEK_V2,
                                .attention = ATTENTION_MLA,
                                .V = 31,
                                .C = 16,
                                .L = 2,
                                .H = 2,
                                .Hkv = 2,
                                .Rkv = 8,
                                .Dn = 4,
                                .Dr = 4,
                                .Dv = 4,
                                .F = 24,
                                .E = 4,
                                .K = 2,
                                .moe_F = 8,
                                .first_dense = 1,
                                .moe_freq = 1,
                                .n_group = 1,
                                .topk_group = 1,
                                .routed_scale = 1,
                                .eps = 1e-6f,
                                .rope = {.theta = 1000, .interleaved = true},
                                .max_positions = 64,
                                .init_std = 0.3f,
                                .eos = 1};

/* The sampler's router with its experts in the opposite order: known which choices differ. */
static void planted(void **state)
{
    (void)state;
    Machine m;
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = 1;
    assert_true(machine_open(&m, &o, &st));
    Policy *p = policy_new(machine_engine(&m), &moe, 5, NULL), *q = policy_new(machine_engine(&m), &moe, 5, NULL);
    BatchBuilder b = {0};
    int32_t ids[9];
    for (int i = 0; i < 9; i++) ids[i] = i * 5 % 31;
    batch_add(&b, ids, 9, 1);
    batch_add(&b, ids, 4, 1);
    Tape tape;
    engine_reset(&p->engine);
    model_forward(&p->engine, &p->w, batch_view(&b), TAPE_HIDDEN, &tape);
    assert_true(routing_gap(q, &b, &p->engine, tape.routing) == 0.0);
    float *router = q->w.layers[1].router.p;
    for (int e = 0; e < 2; e++)
        for (int c = 0; c < 16; c++) {
            float *x = &router[e * 16 + c], *y = &router[(3 - e) * 16 + c], keep = *x;
            *x = *y, *y = keep;
        }
    policy_weights_changed(q);
    int differ = 0;
    for (int n = 0; n < 13; n++) {
        const int32_t *was = tape.routing[1].idx + n * 2, now[2] = {3 - was[1], 3 - was[0]};
        if (n != 8 && n != 12) differ += routing_differs(was, now, 2);
    }
    assert_true(differ > 0);
    assert_float_equal(routing_gap(q, &b, &p->engine, tape.routing), differ / 22.0, 1e-12);
    batch_free(&b);
    policy_free(p);
    policy_free(q);
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choices),
        cmocka_unit_test(planted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
