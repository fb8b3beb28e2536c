/* Rollouts: what is written comes back, a resumed stage continues where it was cut, h5py reads it, bad files are refused. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/rollouts/rollouts.h"
#include "tests/unit/scratch.h"

static const char *const names[] = {"zeta/x", "accuracy"};
enum { BLOCK = 3, PROMPTS = 2, GROUP = 2 };

static void folder_for(const char *name)
{
    char sub[100];
    snprintf(sub, sizeof sub, "%s/rollouts", name);
    mkdir(scratch_path(name), 0777);
    mkdir(scratch_path(sub), 0777);
}

/* The samples of a step, from numbers that say where they belong. */
static void add_step(RolloutWriter *w, int64_t step)
{
    for (int p = 0; p < PROMPTS; p++)
        for (int g = 0; g < GROUP; g++) {
            int32_t ids[8];
            float lp[8], ref[8], entropy[8];
            int n = (int)(step + p + g) % 5; /* also none */
            for (int i = 0; i < n; i++)
                ids[i] = (int)step * 100 + i, lp[i] = -0.5f * (float)i, ref[i] = -1, entropy[i] = 2;
            char prompt[32], completion[32];
            snprintf(prompt, sizeof prompt, "排序 %lld.%d", (long long)step, p);
            snprintf(completion, sizeof completion, "done %d", g);
            RolloutSample s = {.step = step,
                               .prompt = step * 10 + p,
                               .sample = g,
                               .prompt_text = prompt,
                               .completion = completion,
                               .answer = "12",
                               .reason = g ? "wrong answer" : "correct",
                               .ids = ids,
                               .logprobs = lp,
                               .entropy = entropy,
                               .ref_logprobs = step % 2 ? ref : NULL,
                               .n = n,
                               .parts = {NAN, (float)!g},
                               .total = (float)!g,
                               .advantage = g ? -0.5f : 0.5f,
                               .truncated = g};
            rollouts_add(w, &s);
        }
}

static RolloutWriter *open_at(const char *name, int64_t resume)
{
    Status st = {0};
    RolloutWriter *w = rollouts_open(scratch_path(name), "zero", names, 2, BLOCK, resume, &st);
    if (!w) fail_msg("%s", st.text);
    return w;
}

static void run_steps(RolloutWriter *w, int64_t first, int64_t last)
{
    Status st = {0};
    for (int64_t step = first; step <= last; step++) {
        add_step(w, step);
        if (rollouts_block_ends(w, step)) assert_true(rollouts_flush(w, &st));
    }
}

static void comes_back(void **state)
{
    (void)state;
    Status st = {0};
    folder_for("back");
    RolloutWriter *w = open_at("back", 0);
    run_steps(w, 1, 5);
    assert_true(rollouts_flush(w, &st));
    rollouts_close(w);
    RolloutTable t;
    assert_true(rollouts_read(scratch_path("back"), "zero", 5, 1, &t, &st));
    assert_int_equal(t.n, GROUP);
    assert_int_equal(t.n_names, 2);
    assert_string_equal(t.names[0], "accuracy");
    assert_string_equal(t.names[1], "zeta_x");
    const RolloutSample *s = &t.samples[1];
    assert_int_equal(s->prompt, 51);
    assert_int_equal(s->sample, 1);
    assert_string_equal(s->prompt_text, "排序 5.1");
    assert_string_equal(s->completion, "done 1");
    assert_string_equal(s->reason, "wrong answer");
    assert_int_equal(s->n, 2);
    assert_int_equal(s->ids[1], 501);
    assert_true(s->logprobs[1] == -0.5f && s->ref_logprobs[0] == -1 && s->entropy[1] == 2);
    assert_true(s->parts[0] == 0 && isnan(s->parts[1]) && s->advantage == -0.5f && s->truncated);
    rollout_table_free(&t);
    assert_true(rollouts_read(scratch_path("back"), "zero", 4, -1, &t, &st));
    assert_int_equal(t.n, PROMPTS * GROUP);
    assert_true(isnan(t.samples[0].ref_logprobs[0]));
    rollout_table_free(&t);
}

static void says_what_there_is(void **state)
{
    (void)state;
    Status st = {0};
    RolloutTable t;
    assert_false(rollouts_read(scratch_path("back"), "zero", 6, 0, &t, &st));
    assert_true(says(&st, "steps 1 to 5, not of 6"));
    status_clear(&st);
    assert_false(rollouts_read(scratch_path("back"), "zero", 2, 7, &t, &st));
    assert_true(says(&st, "prompts 0 to 1, not 7"));
    status_clear(&st);
    assert_false(rollouts_read(scratch_path("back"), "base", 2, 7, &t, &st));
    assert_true(says(&st, "no rollouts of a stage 'base'"));
    status_clear(&st);
    assert_false(rollouts_read(scratch_path("nowhere"), "zero", 2, 7, &t, &st));
    assert_true(says(&st, "cannot read the folder"));
}

/* Killed at step 8 with a checkpoint at 5 or 6: the shards afterwards are those of a run never stopped. */
static void resumes(void **state)
{
    (void)state;
    Status st = {0};
    folder_for("whole");
    RolloutWriter *w = open_at("whole", 0);
    run_steps(w, 1, 9);
    rollouts_close(w);
    for (int64_t checkpoint = 0; checkpoint <= 8; checkpoint++) {
        char name[32];
        snprintf(name, sizeof name, "cut%d", (int)checkpoint);
        folder_for(name);
        w = open_at(name, 0);
        run_steps(w, 1, checkpoint);
        assert_true(rollouts_flush(w, &st));
        run_steps(w, checkpoint + 1, 8);
        if (checkpoint % 2) assert_true(rollouts_flush(w, &st));
        rollouts_close(w);
        w = open_at(name, checkpoint);
        RolloutTable t;
        assert_false(rollouts_read(scratch_path(name), "zero", checkpoint + 1, -1, &t, &st));
        status_clear(&st);
        run_steps(w, checkpoint + 1, 9);
        rollouts_close(w);
        for (int block = 0; block < 3; block++) {
            char file[80], reference[80];
            size_t n, m;
            snprintf(file, sizeof file, "%s/rollouts/zero-00000%d.h5", name, block);
            snprintf(reference, sizeof reference, "whole/rollouts/zero-00000%d.h5", block);
            char *a = scratch_read(scratch_path(file), &n), *b = scratch_read(scratch_path(reference), &m);
            assert_int_equal(n, m);
            free(a);
            free(b);
        }
        for (int64_t step = 1; step <= 9; step++) {
            assert_true(rollouts_read(scratch_path(name), "zero", step, -1, &t, &st));
            assert_int_equal(t.n, PROMPTS * GROUP);
            assert_true(t.samples[0].parts[0] == 1 && isnan(t.samples[0].parts[1]));
            rollout_table_free(&t);
        }
    }
}

static void h5py_reads_it(void **state)
{
    (void)state;
    const char *python = "python3"; /* the system's where another one stands first in PATH */
    if (system("python3 -c 'import h5py' 2>/dev/null")) python = "/usr/bin/python3";
    char command[1200];
    snprintf(command, sizeof command, "%s -c 'import h5py' 2>/dev/null", python);
    if (system(command)) skip();
    snprintf(command, sizeof command,
             "cd %s && %s -c '\n"
             "import h5py\n"
             "f = h5py.File(\"rollouts.h5\", \"r\")\n"
             "assert list(f) == [\"zero\"] and list(f[\"zero\"]) == [\"000000\", \"000001\"]\n"
             "s = f[\"zero/000001\"]\n"
             "assert s.attrs[\"first_step\"] == 4 and s.attrs[\"stage\"] in (\"zero\", b\"zero\")\n"
             "assert list(s[\"step\"]) == [4] * 4 + [5] * 4\n"
             "o = s[\"offsets\"][:]\n"
             "assert list(s[\"ids\"][o[7]:o[8]]) == [500, 501]\n"
             "text = s[\"prompt_text\"][:]\n"
             "assert text.view(\"S%%d\" %% text.shape[1])[7, 0].decode() == \"排序 5.1\"\n"
             "assert list(s[\"rewards/accuracy\"])[:2] == [1, 0]\n"
             "'",
             scratch_path("back"), python);
    assert_int_equal(system(command), 0);
}

static void damaged_files(void **state)
{
    (void)state;
    Status st = {0};
    RolloutTable t;
    size_t n;
    char *bytes = scratch_read(scratch_path("back/rollouts/zero-000001.h5"), &n);
    folder_for("bad");
    scratch_put("bad/rollouts/zero-000000.h5", bytes, n / 2);
    scratch_put("bad/rollouts/notes.txt", "x", 1);
    assert_false(rollouts_read(scratch_path("bad"), "zero", 4, -1, &t, &st));
    assert_true(st.failed);
    free(bytes);
    status_clear(&st);
    assert_null(rollouts_open(scratch_path("bad"), "zero", names, 2, BLOCK, 2, &st)); /* would lose steps silently */
    assert_true(says(&st, "zero-000000.h5"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),    cmocka_unit_test(says_what_there_is), cmocka_unit_test(resumes),
        cmocka_unit_test(h5py_reads_it), cmocka_unit_test(damaged_files),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
