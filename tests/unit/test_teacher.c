/* Distillation on a teacher's distribution: the KL of every row by its formula in double from the two models' own logits, both
 * ways, with a teacher of another width; gradients by central differences; nothing depends on the head's chunk. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "core/policy.h"
#include "recipes/model/machine.h"
#include "tests/unit/unit.h"

enum { VOCAB = 37, SEQUENCES = 140, LENGTH = 9, ROWS = SEQUENCES * (LENGTH - 1) };

static ModelConfig config_of(int C, int L)
{
    return (ModelConfig){.arch = ARCH_LLAMA,
                         .attention = ATTENTION_GQA,
                         .V = VOCAB,
                         .C = C,
                         .L = L,
                         .H = 2,
                         .Hkv = 1,
                         .Dr = 8,
                         .Dv = 8,
                         .F = 32,
                         .n_group = 1,
                         .topk_group = 1,
                         .moe_freq = 1,
                         .routed_scale = 1,
                         .eps = 1e-6f,
                         .rope = {.theta = 1000},
                         .max_positions = 64,
                         .init_std = 0.3f,
                         .bos = 0,
                         .eos = 1};
}

typedef struct Lab {
    Machine machine;
    Policy *student, *teacher;
    BatchBuilder batch;
    float weight[ROWS];
} Lab;

static Lab lab_open(int chunk)
{
    Lab l = {0};
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    o.threads = 1;
    o.chunk = chunk;
    if (!machine_open(&l.machine, &o, &st)) fail_msg("%s", st.text);
    ModelConfig small = config_of(16, 1), large = config_of(24, 2);
    l.student = policy_new(machine_engine(&l.machine), &small, 3, NULL);
    l.teacher = policy_new(machine_engine(&l.machine), &large, 4, NULL);
    policy_train_open(l.student);
    for (int s = 0; s < SEQUENCES; s++) {
        int32_t ids[LENGTH];
        for (int i = 0; i < LENGTH; i++) ids[i] = (int32_t)((s * 11 + i * 7) % VOCAB);
        batch_add(&l.batch, ids, LENGTH, 1);
    }
    for (int i = 0; i < ROWS; i++) l.weight[i] = i % 5 == 4 ? 0 : (5 + (float)(i % 7)) / (5 * ROWS);
    return l;
}

static void lab_close(Lab *l)
{
    batch_free(&l->batch);
    policy_free(l->student);
    policy_free(l->teacher);
    machine_close(&l->machine);
}

static TrainOut run(Lab *l, bool forward)
{
    KlLoss kl = {l->weight};
    Loss loss = kl_loss(&kl);
    TrainStep step = {.batch = batch_view(&l->batch),
                      .predict = batch_predictions(&l->batch),
                      .inv_temperature = 1,
                      .loss = &loss,
                      .reference = &l->teacher->w,
                      .reference_engine = &l->teacher->engine,
                      .forward_kl = forward};
    TrainOut out;
    policy_weights_changed(l->student);
    train_gradients(&l->student->engine, &l->student->w, &l->student->g, &step, &out);
    return out;
}

/* logp [ROWS, VOCAB] of a model, in double from its f32 logits. */
static void log_probs(Lab *l, Policy *p, double *logp)
{
    Tape tape;
    Batch batch = batch_view(&l->batch);
    float *logits = malloc((size_t)batch.N * VOCAB * sizeof *logits);
    engine_reset(&p->engine);
    model_forward(&p->engine, &p->w, batch, TAPE_NONE, &tape);
    head_logits(&p->engine, &p->w, logits, tape.xn, (size_t)batch.N);
    for (int r = 0; r < ROWS; r++) {
        const float *x = logits + (size_t)l->batch.rows[r] * VOCAB;
        double sum = 0;
        for (int v = 0; v < VOCAB; v++) sum += exp((double)x[v]);
        for (int v = 0; v < VOCAB; v++) logp[r * VOCAB + v] = (double)x[v] - log(sum);
    }
    free(logits);
}

static void values(void **state)
{
    bool forward = *state != NULL;
    static double p[ROWS * VOCAB], q[ROWS * VOCAB];
    Lab l = lab_open(4096);
    log_probs(&l, l.student, p);
    log_probs(&l, l.teacher, q);
    TrainOut out = run(&l, forward);
    double total = 0;
    for (int r = 0; r < ROWS; r++) {
        double want = 0;
        for (int v = r * VOCAB; v < (r + 1) * VOCAB; v++)
            want += forward ? exp(q[v]) * (q[v] - p[v]) : exp(p[v]) * (p[v] - q[v]);
        if (fabs((double)out.rows.kl[r] - want) > 2e-6 * (1 + want))
            fail_msg("row %d: %.9g, want %.9g", r, (double)out.rows.kl[r], want);
        if (fabs((double)out.rows.lp[r] - p[r * VOCAB + l.batch.targets[r]]) > 2e-6) fail_msg("log-prob of row %d", r);
        total += (double)l.weight[r] * want;
    }
    assert_true(fabs(out.loss - total) < 1e-5 * total);
    lab_close(&l);
}

static void gradient(void **state)
{
    bool forward = *state != NULL;
    Lab l = lab_open(4096);
    const ParamTable *t = &l.student->engine.table;
    run(&l, forward);
    float *g = malloc(t->total * sizeof *g);
    memcpy(g, l.student->grads, t->total * sizeof *g);
    for (int i = 0; i < t->n; i++) {
        size_t at = t->params[i].offset + t->params[i].count / 2;
        float keep = l.student->weights.plain[at], h = 4e-3f;
        l.student->weights.plain[at] = keep + h;
        double up = run(&l, forward).loss;
        l.student->weights.plain[at] = keep - h;
        double down = run(&l, forward).loss;
        l.student->weights.plain[at] = keep;
        double want = (up - down) / (2 * (double)h);
        if (fabs((double)g[at] - want) > 2e-3 * (0.02 + fabs(want)))
            fail_msg("%s: %g, differences %g", t->params[i].name, (double)g[at], want);
    }
    free(g);
    lab_close(&l);
}

/* The teacher's own width does not tie the chunk: gradients are equal to the bit. */
static void chunks(void **state)
{
    bool forward = *state != NULL;
    Lab a = lab_open(4096), b = lab_open(8);
    double x = run(&a, forward).loss, y = run(&b, forward).loss;
    assert_true(x == y && b.student->engine.chunks_run == 2);
    assert_memory_equal(a.student->grads, b.student->grads, a.student->engine.table.total * sizeof(float));
    lab_close(&a);
    lab_close(&b);
}

int main(void)
{
    static char forward[] = "forward";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),   cmocka_unit_test_prestate(values, forward),
        cmocka_unit_test(gradient), cmocka_unit_test_prestate(gradient, forward),
        cmocka_unit_test(chunks),   cmocka_unit_test_prestate(chunks, forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
