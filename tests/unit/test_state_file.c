/* The state of a run on disk: two places, checksums, a manifest; and a model updated through it part by part. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/part_state.h"
#include "core/base/check.h"
#include "core/params_select.h"
#include "tests/unit/golden.h"
#include "tests/unit/policy_values.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

enum { RECORDS = 3, STEPS = 3 };
static const StateRecord records[RECORDS] = {
    {"layer 0", {5000, 9999}}, {"layer 1", {4096, 8192}}, {"selection biases", {12, 0}}};

static char *page_buffer(void)
{
    char *p = NULL;
    CHECK(!posix_memalign((void **)&p, STATE_PAGE, 4 * STATE_PAGE));
    memset(p, 0, 4 * STATE_PAGE);
    return p;
}

static bool put(StateFile *f, int record, int mark, Status *st)
{
    char *w = page_buffer(), *m = page_buffer();
    memset(w, mark, records[record].bytes[STATE_WEIGHTS]);
    memset(m, mark + 1, records[record].bytes[STATE_MOMENTS]);
    bool ok = state_file_write(f, record, (const void *const[]){w, m}, st);
    free(w);
    free(m);
    return ok;
}

/* The byte that the record holds everywhere; -1: it cannot be read. */
static int mark_of(StateFile *f, int record, Status *st)
{
    char *p = page_buffer();
    int mark = state_file_read(f, record, STATE_WEIGHTS, p, st) ? p[0] : -1;
    if (mark >= 0 && records[record].bytes[STATE_MOMENTS] && mark > 0) {
        assert_true(state_file_read(f, record, STATE_MOMENTS, p, st));
        assert_int_equal(p[records[record].bytes[STATE_MOMENTS] - 1], mark + 1);
    }
    free(p);
    return mark;
}

static bool commit(StateFile *f, int step, Status *st)
{
    Json *about = json_new_object();
    json_set(about, "step", json_new_int(step));
    return state_file_commit(f, about, st);
}

static int step_of(const StateFile *f)
{
    return (int)json_integer(json_get(state_file_about(f), "step"));
}

static StateFile *open_file(const char *name, Status *st)
{
    return state_file_open(scratch_path(name), records, RECORDS, st);
}

/* Two generations: marks 10 + record, then 20 + record. */
static StateFile *two_steps(const char *name)
{
    Status st = {0};
    StateFile *f = open_file(name, &st);
    assert_non_null(f);
    assert_null(state_file_about(f));
    for (int step = 1; step <= 2; step++) {
        for (int i = 0; i < RECORDS; i++) assert_true(put(f, i, 10 * step + i, &st));
        assert_true(commit(f, step, &st));
    }
    return f;
}

static void test_places(void **state)
{
    (void)state;
    Status st = {0};
    char note[512];
    StateFile *f = open_file("places", &st);
    assert_false(state_file_has(f, 1));
    assert_int_equal(mark_of(f, 1, &st), 0);
    assert_true(put(f, 1, 42, &st));
    assert_int_equal(mark_of(f, 1, &st), 42); /* as written last, committed or not */
    state_file_close(f);
    f = open_file("places", &st);
    assert_false(state_file_has(f, 1));
    state_file_close(f);
    f = two_steps("places");
    /* What is not committed is gone, and does not touch what is, however often it is written. */
    for (int k = 0; k < 3; k++) assert_true(put(f, 0, 50 + k, &st));
    assert_int_equal(mark_of(f, 0, &st), 52);
    assert_null(open_file("places", &st));
    assert_true(says(&st, "is in use by another process"));
    status_clear(&st);
    state_file_close(f);
    f = open_file("places", &st);
    assert_int_equal(step_of(f), 2);
    assert_true(state_file_verify(f, note, &st));
    assert_string_equal(note, "");
    for (int i = 0; i < RECORDS; i++) assert_int_equal(mark_of(f, i, &st), 20 + i);
    /* A record that a step leaves alone keeps its place. */
    assert_true(put(f, 2, 30, &st) && commit(f, 3, &st));
    state_file_close(f);
    f = open_file("places", &st);
    assert_true(state_file_verify(f, note, &st));
    assert_int_equal(mark_of(f, 0, &st), 20);
    assert_int_equal(mark_of(f, 2, &st), 30);
    state_file_close(f);
    StateRecord other[RECORDS];
    memcpy(other, records, sizeof other);
    other[1].bytes[0]++;
    assert_null(state_file_open(scratch_path("places"), other, RECORDS, &st));
    assert_true(says(&st, "is the state of other parts than this run trains"));
    state_file_remove(scratch_path("places"));
    assert_int_equal(scratch_count("places"), 0);
}

static void flip(const char *name, off_t at)
{
    char byte;
    int fd = open(scratch_path(name), O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Place 0 was written first, so that the second generation is in place 1; layer 0 takes 2 + 3 pages there. */
enum { OF_SECOND = 5 * STATE_PAGE, MOMENTS = 2 * STATE_PAGE };

static void test_flipped_byte(void **state)
{
    (void)state;
    Status st = {0};
    char note[512];
    StateFile *f = two_steps("flipped");
    flip("flipped.records", OF_SECOND + MOMENTS + 9998);
    char *p = page_buffer();
    assert_false(state_file_read(f, 0, STATE_MOMENTS, p, &st));
    free(p);
    assert_true(says(&st, "the moments of layer 0 are not what was written"));
    status_clear(&st);
    state_file_close(f);

    f = open_file("flipped", &st);
    assert_int_equal(step_of(f), 2);
    assert_true(state_file_verify(f, note, &st));
    assert_non_null(strstr(note, "the moments of layer 0 are not what was written"));
    assert_int_equal(step_of(f), 1);
    for (int i = 0; i < RECORDS; i++) assert_int_equal(mark_of(f, i, &st), 10 + i);
    assert_true(put(f, 0, 33, &st) && commit(f, 2, &st));
    state_file_close(f);
    f = open_file("flipped", &st); /* it did go back for good */
    assert_true(state_file_verify(f, note, &st));
    assert_int_equal(mark_of(f, 0, &st), 33);
    assert_int_equal(mark_of(f, 1, &st), 11);
    state_file_close(f);

    flip("flipped.records", 3); /* layer 0 as of step 1 */
    flip("flipped.records", OF_SECOND + 3);
    f = open_file("flipped", &st);
    assert_false(state_file_verify(f, note, &st));
    assert_true(says(&st, "the weights of layer 0 are not what was written"));
    assert_true(says(&st, "the generation before it is not whole either"));
    state_file_close(f);
}

static void test_torn_manifest(void **state)
{
    (void)state;
    Status st = {0};
    char note[512];
    size_t n;
    state_file_close(two_steps("torn"));
    char *text = scratch_read(scratch_path("torn.json"), &n);
    for (size_t left = 0; left < n; left += n / 7 + 1) { /* cut anywhere: the one before holds */
        state_file_remove(scratch_path("torn"));
        state_file_close(two_steps("torn"));
        scratch_put("torn.json", text, left);
        StateFile *f = open_file("torn", &st);
        assert_non_null(f);
        assert_int_equal(step_of(f), 1);
        assert_true(state_file_verify(f, note, &st));
        assert_int_equal(mark_of(f, 1, &st), 11);
        state_file_close(f);
    }
    char *digit = strstr(text, "\"place\": 1");
    digit[9] = '0';
    scratch_put("torn.json", text, n);
    unlink(scratch_path("torn.previous.json"));
    assert_null(open_file("torn", &st));
    assert_true(says(&st, "torn.json is not what was written"));
    free(text);
}

static void limit(rlim_t bytes)
{
    struct rlimit now;
    getrlimit(RLIMIT_FSIZE, &now);
    now.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &now), 0);
}

static void test_full_disk(void **state)
{
    (void)state;
    Status st = {0};
    char note[512];
    signal(SIGXFSZ, SIG_IGN);
    limit(3 * STATE_PAGE);
    assert_null(open_file("full", &st));
    assert_true(says(&st, "full.records: File too large"));
    assert_int_equal(scratch_count("full"), 0);
    limit(RLIM_INFINITY);
    status_clear(&st);

    StateFile *f = two_steps("full");
    limit(9 * STATE_PAGE); /* layer 0 has room, layer 1 has none */
    assert_true(put(f, 0, 60, &st));
    assert_false(put(f, 1, 60, &st));
    assert_true(says(&st, "full.records: File too large"));
    status_clear(&st);
    limit(RLIM_INFINITY);
    assert_true(put(f, 1, 60, &st));
    assert_false(commit(f, 3, &st)); /* whoever went on after a failure */
    assert_true(says(&st, "a write failed, so this step is not kept"));
    status_clear(&st);
    state_file_close(f);
    f = open_file("full", &st);
    assert_true(state_file_verify(f, note, &st));
    assert_int_equal(step_of(f), 2);
    for (int i = 0; i < RECORDS; i++) assert_int_equal(mark_of(f, i, &st), 20 + i);
    state_file_close(f);
}

static size_t file_memory(void)
{
    unsigned long size, resident, shared = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_int_equal(fscanf(f, "%lu %lu %lu", &size, &resident, &shared), 3);
    fclose(f);
    return shared * (size_t)sysconf(_SC_PAGESIZE);
}

/* 32 MB of which 2 may stay, used a megabyte at a time: never more than these and the one in use are resident, and what was
 * written is there. */
static void test_file_block(void **state)
{
    (void)state;
    enum { PARTS = 32, EACH = 1 << 20 };
    Status st = {0};
    FileBlock *b = file_block_open(scratch_folder(), (size_t)PARTS * EACH, 2 * EACH, &st);
    if (!b) fail_msg("%s", st.text);
    char *memory = file_block_memory(b);
    size_t before = file_memory(), most = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < PARTS; i++) {
            char *part = memory + (size_t)i * EACH;
            for (size_t at = 0; at < EACH; at += 512) assert_int_equal(part[at], pass);
            for (size_t at = 0; at < EACH; at += 512) part[at]++;
            size_t now = file_memory() - before;
            most = now > most ? now : most;
            file_block_done(b, EACH);
        }
    assert_true(most >= EACH && most <= 3 * EACH + (1 << 19));
    assert_int_equal(scratch_count("weights.tmp"), 0); /* the file has no name */
    file_block_close(b);
}

/* ---- A model ---- */

static void update(Golden *g, int step)
{
    NllLoss nll = {g->weight};
    Loss loss = nll_loss(&nll);
    Policy *p = g->policy;
    TrainStep task = {.batch = batch_view(&g->batch),
                      .predict = batch_predictions(&g->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss};
    TrainOut out;
    Status st = {0};
    train_gradients(&p->engine, &p->w, &p->g, &task, &out);
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f, .max_norm = 0.01f};
    double norm;
    assert_true(policy_update(p, &o, 1e-2f / (float)step, &norm, &st));
    assert_true(norm > 0.01); /* so that the clip is a factor */
    if (p->config.topk == TOPK_NOAUX) policy_bias_update(p, out.routing, 1e-2f);
}

typedef struct ModelCase {
    const char *model;
    DType dtype;
    const char *pattern; /* what is trained; NULL: all */
    MomentForm form;
} ModelCase;

static void open_model(Golden *g, const ModelCase *c)
{
    const char *pattern = c->pattern;
    golden_open_as(g, c->model, c->model, c->dtype, NULL);
    params_moments(&g->policy->engine.table, c->form);
    if (pattern) assert_int_equal(params_select(&g->policy->engine.table, &pattern, 1), -1);
}

static PartState *attach(Golden *g)
{
    Status st = {0};
    PartState *s = part_state_open(scratch_path("model"), &g->policy->engine.table, &g->policy->weights,
                                   g->policy->reference.plain != NULL, &st);
    assert_non_null(s);
    g->policy->store = part_state_store(s);
    policy_train_open(g->policy);
    return s;
}

static void expect_same(Policy *a, Policy *b)
{
    float *x = policy_values(a), *y = policy_values(b);
    assert_memory_equal(x, y, a->engine.table.total * sizeof(float));
    memory_free(x), memory_free(y);
    if (!a->reference.plain) return;
    x = policy_reference_values(a), y = policy_reference_values(b);
    assert_memory_equal(x, y, a->engine.table.state_total * sizeof(float));
    memory_free(x), memory_free(y);
}

/* STEPS updates in memory, and the same through the file, by two processes' worth of policies: the second goes on after the
 * first step. */
static void expect_equal_steps(const ModelCase *c)
{
    Golden memory, first, second;
    Status st = {0};
    char note[512];
    open_model(&memory, c);
    policy_train_open(memory.policy);
    open_model(&first, c);
    policy_reference_set(first.policy);
    PartState *s = attach(&first);
    assert_null(first.policy->m);
    update(&memory, 1);
    policy_reference_set(memory.policy);
    update(&first, 1);
    policy_reference_set(first.policy);
    assert_true(part_state_rest(s, &first.policy->reference, &st) && commit(part_state_file(s), 1, &st));
    expect_same(memory.policy, first.policy);
    update(&first, 2); /* killed before it is committed */
    part_state_close(s);

    open_model(&second, c);
    policy_reference_set(second.policy);
    s = attach(&second);
    assert_true(state_file_verify(part_state_file(s), note, &st));
    assert_true(part_state_has_reference(s));
    assert_true(part_state_load(s, &second.policy->reference, &st));
    policy_weights_changed(second.policy);
    second.policy->optimizer_step = 1;
    expect_same(memory.policy, second.policy);
    for (int step = 2; step <= STEPS; step++) {
        update(&memory, step);
        update(&second, step);
        assert_true(part_state_rest(s, NULL, &st) && commit(part_state_file(s), step, &st));
    }
    expect_same(memory.policy, second.policy);
    uint64_t written;
    struct stat file;
    assert_int_equal(stat(scratch_path("model.records"), &file), 0);
    assert_int_equal(part_state_disk(&second.policy->engine.table, true, &written), file.st_size);
    part_state_close(s);
    state_file_remove(scratch_path("model"));
    golden_close(&memory);
    golden_close(&first);
    golden_close(&second);
}

static void test_model(void **state)
{
    (void)state;
    for (int form = MOMENTS_F32; form <= MOMENTS_8BIT; form++) {
        ModelCase cases[] = {{"v3", DTYPE_F32, NULL, 0}, /* with selection biases, which change without a gradient */
                             {"v3", DTYPE_BF16, "layers.1.mlp.*", 0},
                             {"v2_lite", DTYPE_F32, "experts.1.*", 0},
                             {"llama", DTYPE_BF16, NULL, 0}};
        for (int i = 0; i < 4; i++) {
            cases[i].form = (MomentForm)form;
            expect_equal_steps(&cases[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),    cmocka_unit_test(test_flipped_byte), cmocka_unit_test(test_torn_manifest),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_file_block),   cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
