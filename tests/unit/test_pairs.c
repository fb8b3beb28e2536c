/* Preference pairs: every spelling of TRL's columns, only the last message predicted, what is too long, held out or no pair. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/run/sources.h"
#include "recipes/stages/pairs.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static const char ROWS[] =
    "{\"prompt\": \"1+1\", \"chosen\": \"<answer>2</answer>\", \"rejected\": \"<answer>33</answer>\"}\n"
    "{\"prompt\": [{\"role\": \"user\", \"content\": \"1+1\"}], \"chosen\": [{\"role\": \"assistant\", \"content\": "
    "\"<answer>2</answer>\"}], \"rejected\": [{\"role\": \"assistant\", \"content\": \"<answer>33</answer>\"}]}\n"
    "{\"chosen\": [{\"role\": \"user\", \"content\": \"1+1\"}, {\"role\": \"assistant\", \"content\": "
    "\"<answer>2</answer>\"}], \"rejected\": [{\"role\": \"user\", \"content\": \"1+1\"}, {\"role\": \"assistant\", "
    "\"content\": \"<answer>33</answer>\"}]}\n";

typedef struct Lab {
    Recipe recipe;
    Run run;
    RecipeStage stage;
    CorpusSpec mix;
    Tokenizer *tokenizer;
} Lab;

static Lab *lab_open(const char *rows, double heldout)
{
    static Lab l;
    Status st = {0};
    memset(&l, 0, sizeof l);
    l.tokenizer = tokenizer_new_char();
    l.run = (Run){.recipe = &l.recipe, .tokenizer = l.tokenizer};
    assert_true(voice_open(&l.run.voice, l.tokenizer, "", NULL, NULL, &st));
    l.stage = (RecipeStage){.kind = STAGE_DPO, .max_length = 100, .heldout_pairs = 5};
    RecipeTask *t = rows ? &l.stage.preferences.list[0] : &l.recipe.general.list[0];
    *t = (RecipeTask){.levels = {1, 1}, .weight = 1, .heldout = heldout};
    if (rows) {
        scratch_put("pairs.jsonl", rows, strlen(rows));
        snprintf(t->file, sizeof t->file, "%s", scratch_path("pairs.jsonl"));
        l.stage.preferences.n = 1;
    } else {
        snprintf(t->task, sizeof t->task, "helpful");
        l.recipe.general.list[1] = *t;
        snprintf(l.recipe.general.list[1].task, sizeof t->task, "refusal");
        l.recipe.general.n = 2;
    }
    assert_true(pairs_mix(&l.run, &l.stage, &l.mix, &st));
    return &l;
}

static void lab_close(Lab *l)
{
    for (int i = 0; i < l->run.n_datasets; i++) dataset_free(l->run.datasets[i]);
    tokenizer_free(l->tokenizer);
}

static void expect_predicted(const Lab *l, const Sequence *s, const char *want)
{
    assert_int_equal(s->n_spans, 1);
    assert_int_equal(s->spans[0].end, s->n);
    char *text = tokenizer_decode(l->tokenizer, s->ids + s->spans[0].first, s->n - 1 - s->spans[0].first, true);
    assert_string_equal(text, want);
    free(text);
}

/* The three spellings are one pair, and both sequences begin with one prompt. */
static void spellings(void **state)
{
    (void)state;
    Lab *l = lab_open(ROWS, 0);
    Pairs p = {0};
    Status st = {0};
    assert_int_equal(pairs_wanted(&l->stage, &l->mix), 3);
    assert_int_equal(pairs_heldout(&l->stage, &l->mix), 0);
    assert_true(pairs_add(&p, &l->run, &l->stage, &l->mix, 1, SPLIT_TRAIN, 3, &st));
    assert_int_equal(p.n, 3);
    for (int i = 0; i < 3; i++) {
        const Sequence *a = &p.list[i].chosen, *b = &p.list[i].rejected;
        expect_predicted(l, a, "<answer>2</answer>");
        expect_predicted(l, b, "<answer>33</answer>");
        assert_int_equal(a->spans[0].first, b->spans[0].first);
        assert_memory_equal(a->ids, b->ids, (size_t)a->spans[0].first * sizeof *a->ids);
        assert_memory_equal(a->ids, p.list[0].chosen.ids, (size_t)a->n * sizeof *a->ids);
    }
    int longest = p.list[0].rejected.n;
    pairs_free(&p);
    l->stage.max_length = longest - 1; /* the rejected one alone is too long */
    assert_true(pairs_add(&p, &l->run, &l->stage, &l->mix, 1, SPLIT_TRAIN, 3, &st));
    assert_int_equal(p.n, 0);
    assert_int_equal(p.too_long, 3);
    pairs_free(&p);
    lab_close(l);
}

static void no_pair(void **state)
{
    (void)state;
    Lab *l = lab_open("{\"prompt\": \"1+1\", \"completion\": \"2\"}\n", 0);
    Pairs p = {0};
    Status st = {0};
    assert_false(pairs_add(&p, &l->run, &l->stage, &l->mix, 1, SPLIT_TRAIN, 1, &st));
    assert_non_null(strstr(st.text, "pairs.jsonl: line 1 is no preference pair"));
    pairs_free(&p);
    lab_close(l);
}

/* Rows of the held-out share are not trained on. */
static void heldout(void **state)
{
    (void)state;
    char rows[4096] = "";
    for (int i = 0; i < 20; i++)
        sprintf(rows + strlen(rows), "{\"prompt\": \"%d\", \"chosen\": \"yes\", \"rejected\": \"no\"}\n", i);
    Lab *l = lab_open(rows, 0.3);
    int n = l->run.datasets[0]->n_test;
    assert_true(n > 0);
    assert_int_equal(pairs_wanted(&l->stage, &l->mix), 20 - n);
    assert_int_equal(pairs_heldout(&l->stage, &l->mix), n < 5 ? n : 5);
    Pairs train = {0}, test = {0};
    Status st = {0};
    assert_true(pairs_add(&train, &l->run, &l->stage, &l->mix, 1, SPLIT_TRAIN, 20 - n, &st));
    assert_true(pairs_add(&test, &l->run, &l->stage, &l->mix, 1, SPLIT_TEST, n, &st));
    for (int i = 0; i < train.n; i++)
        for (int k = 0; k < test.n; k++) {
            const Sequence *a = &train.list[i].chosen, *b = &test.list[k].chosen;
            assert_false(a->n == b->n && !memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids));
        }
    pairs_free(&train);
    pairs_free(&test);
    lab_close(l);
}

/* Without files the helpful families give the pairs, those that reward models learn from; noise flips training pairs alone. */
static void families(void **state)
{
    (void)state;
    Lab *l = lab_open(NULL, 0);
    assert_int_equal(l->mix.n_sources, 1); /* refusal has no pairs */
    Pairs clean = {0}, noisy = {0}, test[2] = {{0}, {0}};
    Status st = {0};
    l->stage.max_length = 1000;
    assert_true(pairs_add(&clean, &l->run, &l->stage, &l->mix, 1, SPLIT_TRAIN, 200, &st));
    assert_true(pairs_add(&test[0], &l->run, &l->stage, &l->mix, 1, SPLIT_TEST, 20, &st));
    l->stage.noise = 0.5;
    assert_true(pairs_add(&noisy, &l->run, &l->stage, &l->mix, 1, SPLIT_TRAIN, 200, &st));
    assert_true(pairs_add(&test[1], &l->run, &l->stage, &l->mix, 1, SPLIT_TEST, 20, &st));
    int flipped = 0;
    for (int i = 0; i < 200; i++) {
        const Sequence *a = &clean.list[i].chosen, *b = &noisy.list[i].chosen, *c = &noisy.list[i].rejected;
        bool same = a->n == b->n && !memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids);
        flipped += !same;
        if (!same) assert_int_equal(a->n, c->n);
    }
    assert_in_range(flipped, 70, 130);
    for (int i = 0; i < 20; i++) assert_int_equal(test[0].list[i].chosen.n, test[1].list[i].chosen.n);
    pairs_free(&clean);
    pairs_free(&noisy);
    for (int i = 0; i < 2; i++) pairs_free(&test[i]);
    lab_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings),
        cmocka_unit_test(no_pair),
        cmocka_unit_test(heldout),
        cmocka_unit_test(families),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
