/* Bits per byte: which tokens are predicted, which bytes they stand for, with and without a token for the beginning. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/policy.h"
#include "recipes/model/eval_text.h"
#include "recipes/model/machine.h"
#include "tests/unit/scratch.h"

enum { POSITIONS = 4 };

static Policy *policy_of(const Machine *m)
{
    const ModelConfig c = {.arch = ARCH_LLAMA,
                           .attention = ATTENTION_GQA,
                           .V = 80,
                           .C = 16,
                           .L = 1,
                           .H = 2,
                           .Hkv = 1,
                           .Dr = 8,
                           .Dv = 8,
                           .F = 16,
                           .moe_freq = 1,
                           .n_group = 1,
                           .topk_group = 1,
                           .routed_scale = 1,
                           .eps = 1e-5f,
                           .rope = {.theta = 10000},
                           .max_positions = POSITIONS,
                           .init_std = 0.3f,
                           .bos = -1,
                           .eos = -1};
    return policy_new(machine_engine(m), &c, 3, NULL);
}

/* -log p of what follows the first token of ids. */
static double nats_of(Policy *p, const int32_t *ids, int n)
{
    BatchBuilder b = {0};
    float lp[POSITIONS];
    double sum = 0;
    batch_add(&b, ids, n, 1);
    Predictions predict = batch_predictions(&b);
    train_log_probs(&p->engine, &p->w, batch_view(&b), &predict, 1, lp, NULL);
    for (int i = 0; i < b.m; i++) sum -= (double)lp[i];
    batch_free(&b);
    return sum;
}

static TextEval measure(Policy *p, const Tokenizer *t, const char *text)
{
    TextEval e;
    Status st = {0};
    scratch_put("text", text, strlen(text));
    if (!eval_text(p, t, scratch_path("text"), false, &e, &st)) fail_msg("%s", st.text);
    return e;
}

/* Without a first token that of the text is only read: neither it nor its bytes count. Characters that the vocabulary lacks are
 * bytes all the same. */
static void without_a_beginning(void **state)
{
    (void)state;
    static const char json[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}";
    static const int32_t ids[] = {2, 0, 1}; /* ab, a and b in windows of four tokens */
    Machine m;
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    assert_true(machine_open(&m, &o, &st));
    Policy *p = policy_of(&m);
    Tokenizer *t = tokenizer_parse(json, sizeof json - 1, "test", &st);
    if (!t) fail_msg("%s", st.text);
    TextEval e = measure(p, t, "aba");
    assert_true(e.texts == 1 && e.windows == 1 && e.tokens == 1 && e.bytes == 1);
    assert_float_equal(e.nats, nats_of(p, ids, 2), 1e-5);
    assert_float_equal(text_bits_per_byte(&e), e.nats / log(2), 1e-9);
    e = measure(p, t, "abaX");
    assert_true(e.tokens == 1 && e.bytes == 2);
    assert_float_equal(text_bits_per_byte(&e), e.nats / log(2) / 2, 1e-9);
    e = measure(p, t, "ababababab"); /* five tokens: a window of four, and one that predicts nothing */
    assert_true(e.windows == 2 && e.tokens == 3 && e.bytes == 6);
    tokenizer_free(t);
    policy_free(p);
    machine_close(&m);
}

/* With one it stands before every window, and every token of the text is predicted. */
static void with_a_beginning(void **state)
{
    (void)state;
    Machine m;
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    assert_true(machine_open(&m, &o, &st));
    Policy *p = policy_of(&m);
    Tokenizer *t = tokenizer_new_char();
    const int32_t ids[] = {tokenizer_bos(t), tokenizer_id(t, "1"), tokenizer_id(t, "2")};
    TextEval e = measure(p, t, "12");
    assert_true(e.windows == 1 && e.tokens == 2 && e.bytes == 2);
    assert_float_equal(e.nats, nats_of(p, ids, 3), 1e-5);
    e = measure(p, t, "1234");
    assert_true(e.windows == 2 && e.tokens == 4 && e.bytes == 4);
    tokenizer_free(t);
    policy_free(p);
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(without_a_beginning), cmocka_unit_test(with_a_beginning)};
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
