/* Budgets of thoughts, worked examples, and what is asked in a refinement. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/batches.h"
#include "recipes/model/effort.h"
#include "recipes/model/eval_refine.h"
#include "recipes/model/machine.h"
#include "recipes/model/shots.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static void names(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int budget;
        bool lasts;
    } good[] = {{"low", 8, false}, {"medium", 16, false}, {"high", 32, true}, {"7", 7, false}, {"+7", 7, true}};
    static const char *const bad[] = {"", "+", "0", "-3", "7x", "++7", "LOW", "99999999999"};
    Effort e;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(effort_read(good[i].text, 64, &e));
        assert_int_equal(e.budget, good[i].budget);
        assert_int_equal(e.lasts, good[i].lasts);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(effort_read(bad[i], 64, &e));
    assert_true(effort_read("low", 4, &e) && e.budget == 1);
}

/* A model of random weights in a vocabulary of which little can be said, so that ends of thoughts are not rare; its
 * generation prompt opens the thought. */
typedef struct Lab {
    Machine machine;
    Policy *policy;
    Tokenizer *tokenizer;
    Voice voice;
    Ids prompts[2];
    RolloutPrompt list[2];
} Lab;

enum { TOKENS = 60, SAMPLES = 6, ITEMS = 2 * SAMPLES };

static Lab lab_open(void)
{
    Lab l = {.tokenizer = tokenizer_new_char()};
    RuntimeOptions o = runtime_defaults();
    Status st = {0};
    o.threads = 1;
    ModelConfig c = {.arch = ARCH_LLAMA,
                     .attention = ATTENTION_GQA,
                     .V = tokenizer_vocab(l.tokenizer),
                     .C = 16,
                     .L = 1,
                     .H = 2,
                     .Hkv = 1,
                     .Dr = 8,
                     .Dv = 8,
                     .F = 16,
                     .eps = 1e-6f,
                     .rope = {.theta = 1e4f},
                     .max_positions = 128,
                     .init_std = 0.05f,
                     .bos = -1,
                     .eos = -1};
    if (!config_validate(&c, &st) || !machine_open(&l.machine, &o, &st)) fail_msg("%s", st.text);
    if (!voice_open(&l.voice, l.tokenizer, NULL, NULL, NULL, &st)) fail_msg("%s", st.text);
    l.policy = policy_new(machine_engine(&l.machine), &c, 3, NULL);
    strcpy(l.voice.opened, "<think>");
    static const char *const texts[] = {"<user>sort 312<assistant><think>", "<user>add 1+2<assistant><think>"};
    for (int i = 0; i < 2; i++) {
        tokenizer_encode(l.tokenizer, texts[i], strlen(texts[i]), &l.prompts[i]);
        l.list[i] = (RolloutPrompt){l.prompts[i].ids, l.prompts[i].n, (uint32_t)i};
    }
    return l;
}

static void lab_close(Lab *l)
{
    for (int i = 0; i < 2; i++) free(l->prompts[i].ids);
    policy_free(l->policy);
    machine_close(&l->machine);
    tokenizer_free(l->tokenizer);
}

static RolloutSpec spec_of(const Lab *l, float temperature)
{
    RolloutSpec s = {.slots = 8,
                     .samples = SAMPLES,
                     .max_tokens = TOKENS,
                     .sampling = {.temperature = temperature, .top_p = 1},
                     .seed = 5,
                     .purpose = RNG_EVAL};
    voice_rollout(&l->voice, &s);
    s.sampling.vocab_used = 12; /* the special tokens and a few characters */
    return s;
}

static ForcedCompletions forced(Lab *l, RolloutSpec spec, Effort e)
{
    ForcedCompletions out;
    RolloutStats stats = {0};
    Status st = {0};
    if (!effort_rollout(l->policy, &l->voice, &spec, &e, ",", l->list, 2, &out, &stats, &st)) fail_msg("%s", st.text);
    assert_int_equal(out.n, ITEMS);
    return out;
}

static int place_of(const Completion *c, int32_t id)
{
    int i = 0;
    while (i < c->n && c->ids[i] != id) i++;
    return i;
}

/* Every token that was sampled has the log-prob that training gives it behind what stands before it, whatever was put
 * in there. */
static void expect_log_probs(Lab *l, const Completion *c, const Ids *prompt)
{
    BatchBuilder b = {0};
    Ids ids = {0};
    float lp[TOKENS];
    for (int i = 0; i < prompt->n; i++) ids_push(&ids, prompt->ids[i]);
    for (int i = 0; i < c->n; i++) ids_push(&ids, c->ids[i]);
    batch_add(&b, ids.ids, ids.n, prompt->n);
    Predictions predict = batch_predictions(&b);
    train_log_probs(&l->policy->engine, &l->policy->w, batch_view(&b), &predict, 1, lp, NULL);
    for (int i = 0; i < c->n; i++)
        if (c->logprobs[i] != 0) assert_true(lp[i] == c->logprobs[i]);
    batch_free(&b);
    free(ids.ids);
}

static void closed(void **state)
{
    (void)state;
    Lab l = lab_open();
    int32_t close = tokenizer_id(l.tokenizer, "</think>");
    ForcedCompletions f = forced(&l, spec_of(&l, 1), (Effort){.budget = 9});
    int at_budget = 0, before = 0;
    for (int i = 0; i < f.n; i++) {
        const Completion *c = &f.list[i];
        int at = place_of(c, close);
        if (at == c->n) { /* the model ended its turn within the thought */
            assert_true(c->n <= 9 && !c->truncated && voice_stops(&l.voice, c->ids[c->n - 1]));
            continue;
        }
        assert_true(at <= 9);
        at_budget += at == 9 && c->logprobs[at] == 0;
        before += at < 9;
        assert_true(c->n <= TOKENS && c->truncated == !voice_stops(&l.voice, c->ids[c->n - 1]));
        expect_log_probs(&l, c, &l.prompts[i / SAMPLES]);
    }
    assert_int_equal(at_budget, f.closed);
    assert_true(at_budget > 0 && before > 0 && f.continued == 0);
    forced_free(&f);
    lab_close(&l);
}

/* A thought that is to last ends at its budget or after EFFORT_ROUNDS attempts to end it. */
static void continued(void **state)
{
    (void)state;
    Lab l = lab_open();
    int32_t close = tokenizer_id(l.tokenizer, "</think>"), comma = tokenizer_id(l.tokenizer, ",");
    RolloutSpec spec = spec_of(&l, 1);
    ForcedCompletions f = forced(&l, spec, (Effort){.budget = 20, .lasts = true});
    long put_in = 0;
    for (int i = 0; i < f.n; i++) {
        const Completion *c = &f.list[i];
        int at = place_of(c, close), commas = 0;
        for (int k = 0; k < at; k++) commas += c->ids[k] == comma && c->logprobs[k] == 0;
        put_in += commas;
        assert_true(at == c->n || at >= 19 || commas == EFFORT_ROUNDS);
        assert_true(at <= 20 && (at < c->n || c->n <= 20));
        expect_log_probs(&l, c, &l.prompts[i / SAMPLES]);
    }
    assert_true(put_in > 0);
    assert_int_equal(put_in, f.continued);
    forced_free(&f);
    lab_close(&l);
}

/* A budget that nobody reaches changes nothing: greedy, token for token. */
static void unlimited(void **state)
{
    (void)state;
    Lab l = lab_open();
    RolloutSpec spec = spec_of(&l, 0);
    ForcedCompletions f = forced(&l, spec, (Effort){.budget = TOKENS});
    Completion c[ITEMS];
    RolloutStats stats = {0};
    Status st = {0};
    if (!rollout_run(l.policy->sampler, &l.policy->w, &spec, l.list, 2, c, &stats, &st)) fail_msg("%s", st.text);
    for (int i = 0; i < ITEMS; i++) {
        assert_int_equal(f.list[i].n, c[i].n);
        assert_int_equal(f.list[i].truncated, c[i].truncated);
        assert_memory_equal(f.list[i].ids, c[i].ids, (size_t)c[i].n * sizeof(int32_t));
        assert_memory_equal(f.list[i].logprobs, c[i].logprobs, (size_t)c[i].n * sizeof(float));
    }
    forced_free(&f);
    lab_close(&l);
}

/* ---- Worked examples ---- */

static char *prompt_text(const Tokenizer *t, const PromptSet *s, int i)
{
    return tokenizer_decode(t, s->prompts[i].ids, s->prompts[i].n, true);
}

/* Before a question of the test split stand problems of the training split, of its level and language, rightly
 * answered. */
static void worked_examples(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    Voice v;
    Status st = {0};
    if (!voice_open(&v, t, NULL, NULL, NULL, &st)) fail_msg("%s", st.text);
    CorpusSpec mix = {.sources = {{.task = task_find("add"), .level_min = 2, .level_max = 2, .weight = 1}},
                      .n_sources = 1};
    PromptSet plain, shot;
    assert_true(prompts_draw(&plain, &v, &mix, 1, SPLIT_TEST, 0, 4, &st) &&
                prompts_draw(&shot, &v, &mix, 1, SPLIT_TEST, 0, 4, &st));
    assert_true(shots_add(&shot, &v, &mix.sources[0], 1, 2, &st));
    for (int i = 0; i < 4; i++) {
        char *text = prompt_text(t, &shot, i), *question = prompt_text(t, &plain, i);
        const char *bare = strstr(question, "<user>"), *at = text;
        assert_true(strlen(text) > strlen(bare) && !strcmp(text + strlen(text) - strlen(bare), bare));
        int first[2] = {0};
        for (int k = 0; k < 2; k++) {
            int a, b, answer;
            at = strstr(at, "<user>add ");
            assert_non_null(at);
            assert_int_equal(sscanf(at, "<user>add %d+%d", &a, &b), 2);
            const char *said = strstr(at, "<answer>");
            assert_int_equal(sscanf(said, "<answer>%d", &answer), 1);
            assert_int_equal(a + b, answer);
            assert_true(k == 0 || a != first[0] || b != first[1]);
            first[0] = a;
            first[1] = b;
            at = said;
        }
        free(text);
        free(question);
    }
    prompts_free(&plain);
    prompts_free(&shot);
    tokenizer_free(t);
}

/* Of a file the examples are rows that are kept for training; where none are held out there are no examples. */
static void examples_of_a_file(void **state)
{
    (void)state;
    char rows[4096] = "", line[80];
    Status st = {0};
    for (int i = 0; i < 30; i++) {
        snprintf(line, sizeof line, "{\"prompt\": \"question %c\", \"answer\": \"%c\"}\n", 'a' + i % 26, 'A' + i % 26);
        strcat(rows, line);
    }
    scratch_put("shots.jsonl", rows, strlen(rows));
    Tokenizer *t = tokenizer_new_char();
    Voice v;
    if (!voice_open(&v, t, NULL, NULL, NULL, &st)) fail_msg("%s", st.text);
    for (int held = 0; held < 2; held++) {
        Dataset *d = dataset_read(scratch_path("shots.jsonl"), held ? 0.3 : 0, false, &st);
        CorpusSpec mix = {.sources = {{.dataset = d, .level_min = 1, .level_max = 1, .weight = 1}}, .n_sources = 1};
        PromptSet set;
        int n = dataset_rows(d, SPLIT_TEST);
        assert_true(prompts_draw(&set, &v, &mix, 1, SPLIT_TEST, 0, n, &st));
        assert_int_equal(shots_add(&set, &v, &mix.sources[0], 1, 3, &st), held);
        for (int i = 0; held && i < n; i++) {
            char *text = prompt_text(t, &set, i);
            for (int k = 0; k < d->n_test; k++) {
                const DatasetRow *row = dataset_row(d, SPLIT_TEST, (uint64_t)k);
                char answered[64];
                snprintf(answered, sizeof answered, "%s<assistant>%s", row->prompt, row->answer);
                assert_null(strstr(text, answered));
            }
            free(text);
        }
        if (!held) assert_non_null(strstr(st.text, "--heldout"));
        st = (Status){0};
        prompts_free(&set);
        dataset_free(d);
    }
    tokenizer_free(t);
}

static void requests(void **state)
{
    (void)state;
    Problem p = {.language = LANGUAGE_EN};
    static const Verdict wrong = {.reason = REASON_NOT_SORTED}, right = {.score = 1, .reason = REASON_CORRECT};
    char *none = refine_request(&p, FEEDBACK_NONE, wrong), *blind = refine_request(&p, FEEDBACK_NONE, right);
    char *told = refine_request(&p, FEEDBACK_VERDICT, wrong);
    assert_string_equal(none, blind); /* without a verdict nothing is told */
    assert_non_null(strstr(told, "not sorted"));
    static const Verdict partly = {.score = 0.5f, .reason = REASON_TEST_FAILED};
    char *some = refine_request(&p, FEEDBACK_VERDICT, partly), *fine = refine_request(&p, FEEDBACK_VERDICT, right);
    assert_non_null(strstr(some, "not right: test failed"));
    assert_non_null(strstr(fine, "That is right"));
    free(some);
    free(fine);
    free(none);
    free(blind);
    free(told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),     cmocka_unit_test(closed),          cmocka_unit_test(continued),
        cmocka_unit_test(unlimited), cmocka_unit_test(worked_examples), cmocka_unit_test(examples_of_a_file),
        cmocka_unit_test(requests),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
