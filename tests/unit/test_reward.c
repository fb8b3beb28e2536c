/* Reward components on hand-made completions, and external programs that work, hang, die and talk nonsense. */
#include <math.h>
#include <fcntl.h>
#include <unistd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "data/reward/command.h"
#include "data/reward/external.h"
#include "data/reward/reward.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"
#include "core/base/clock.h"

static Problem addition = {.level = 3, .prompt = "add 478+295", .answer = "773"};
static const char good[] = "<think>8+5+0=13,7+9+1=17,4+2+1=7</think><answer>773</answer>";
static const char chinese[] = "<think>八+五+零=一三,七+九+1=17</think><answer>773</answer>";

static RewardInput input(const char *completion)
{
    addition.task = task_find("add");
    return (RewardInput){&addition, completion, 30, 60, false, NAN, NAN};
}

static RewardOutput score_one(const RewardSpec *spec, RewardInput in)
{
    Status st = {0};
    RewardOutput out;
    RewardSet *r = reward_open(spec, 1, &st);
    assert_non_null(r);
    reward_score(r, &in, &out, 1, &(Status){0});
    reward_close(r);
    return out;
}

static float part_of(RewardKind kind, RewardInput in)
{
    RewardSpec spec = {.kind = kind, .weight = 1, .buffer = 20};
    return score_one(&spec, in).parts[0];
}

static void test_rules(void **state)
{
    (void)state;
    RewardInput in = input(good);
    assert_true(part_of(REWARD_ACCURACY, in) == 1 && part_of(REWARD_FORMAT, in) == 1);
    assert_true(part_of(REWARD_LANGUAGE, in) == 1 && part_of(REWARD_LENGTH, in) == 0.5f);
    assert_float_equal(part_of(REWARD_LANGUAGE, input(chinese)), 0.3, 1e-6); /* 八五零一三七九 and 1 1 7 */
    assert_true(part_of(REWARD_FORMAT, input("<think></think><answer>773</answer>")) == 0);
    assert_true(part_of(REWARD_LANGUAGE, input("<think></think><answer>773</answer>")) == 0);
    assert_true(part_of(REWARD_ACCURACY, input("773")) == 0);
    in.truncated = true;
    assert_true(part_of(REWARD_ACCURACY, in) == 0 && part_of(REWARD_FORMAT, in) == 0);
}

static void test_overlong(void **state)
{
    (void)state;
    static const struct {
        int tokens;
        float expected;
    } cases[] = {{0, 0}, {40, 0}, {41, -0.05f}, {50, -0.5f}, {59, -0.95f}, {60, -1}, {70, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        RewardInput in = input(good);
        in.tokens = cases[i].tokens;
        assert_float_equal(part_of(REWARD_OVERLONG, in), cases[i].expected, 1e-6);
    }
}

static void test_repetition(void **state)
{
    (void)state;
    assert_true(part_of(REWARD_REPETITION, input("one two three four five six")) == 0);
    assert_true(part_of(REWARD_REPETITION, input("one two")) == 0 && part_of(REWARD_REPETITION, input("")) == 0);
    /* 8 times a: five 4-grams, all equal. */
    assert_float_equal(part_of(REWARD_REPETITION, input("a a a a a a a a")), -0.8, 1e-6);
    assert_float_equal(part_of(REWARD_REPETITION, input("猫猫猫猫猫")), -0.5, 1e-6);
    /* "a b c d a b c d": 4-grams abcd bcda cdab dabc abcd. */
    assert_float_equal(part_of(REWARD_REPETITION, input("a b c d a b c d")), -0.2, 1e-6);
    assert_true(part_of(REWARD_REPETITION, input(good)) > -0.2f);
}

static void test_routing(void **state)
{
    (void)state;
    Status st = {0};
    static const RewardSpec specs[] = {
        {.kind = REWARD_ACCURACY, .weight = 1},
        {.kind = REWARD_FORMAT, .weight = 0.5f},
        {.kind = REWARD_HELPFUL_RM, .weight = 2},
        {.kind = REWARD_SAFETY_RM, .weight = 3, .kinds = 1 << KIND_HELPFUL | 1 << KIND_SAFETY},
        {.kind = REWARD_ACCURACY, .name = "rule", .weight = 10, .kinds = 1 << KIND_HELPFUL},
    };
    Problem helpful = {.task = task_find("helpful"),
                       .level = 1,
                       .kind = KIND_HELPFUL,
                       .prompt = "say cat dog",
                       .answer = "hello cat dog thanks"};
    RewardInput in[2] = {
        input(good), {&helpful, "<think>cat,dog</think><answer>hello cat dog</answer>", 9, 60, false, 0.25f, -0.5f}};
    RewardOutput out[2];
    RewardSet *r = reward_open(specs, 5, &st);
    reward_score(r, in, out, 2, &(Status){0});
    assert_float_equal(out[0].total, 1.5, 1e-6);
    assert_true(out[0].applies[0] && out[0].applies[1]);
    assert_true(!out[0].applies[2] && !out[0].applies[3] && !out[0].applies[4]);
    assert_float_equal(out[1].verdict.score, 0.9, 1e-6);
    assert_float_equal(out[1].total, 0.5 + 2 * 0.25 - 3 * 0.5 + 10 * 0.9, 1e-5);
    assert_int_equal(out[1].verdict.reason, REASON_NOT_HELPFUL);
    /* Reward models that did not run do not apply. */
    in[1].helpful = in[1].safe = NAN;
    reward_score(r, &in[1], out, 1, &(Status){0});
    assert_true(!out[0].applies[2] && !out[0].applies[3] && out[0].parts[2] == 0);
    assert_float_equal(out[0].total, 0.5 + 10 * 0.9, 1e-5);
    reward_close(r);
}

static void test_bad_specs(void **state)
{
    (void)state;
    static const struct {
        RewardSpec spec;
        const char *words;
    } cases[] = {
        {{.kind = REWARD_EXTERNAL, .weight = 1}, "needs a command"},
        {{.kind = REWARD_EXTERNAL, .weight = 1, .command = "cat", .timeout = -1}, "timeout"},
        {{.kind = REWARD_FORMAT, .weight = NAN}, "weight"},
        {{.kind = REWARD_OVERLONG, .weight = 1, .buffer = -3}, "buffer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Status st = {0};
        assert_null(reward_open(&cases[i].spec, 1, &st));
        assert_true(says(&st, cases[i].words));
    }
}

/* ---- External programs ---- */

/* Scores n good completions that differ in a number, by a shell program. */
static void score_by(const char *command, double timeout, RewardOutput *out, int n)
{
    Status st = {0};
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .weight = 2, .timeout = timeout, .startup = timeout};
    snprintf(spec.command, sizeof spec.command, "%s", command);
    RewardSet *r = reward_open(&spec, 1, &st);
    RewardInput in[8];
    char texts[8][64];
    for (int i = 0; i < n; i++) {
        snprintf(texts[i], sizeof texts[i], "<think>%d</think><answer>773</answer>", i);
        in[i] = input(texts[i]);
    }
    reward_score(r, in, out, n, &(Status){0});
    reward_close(r);
}

static void test_external_success(void **state)
{
    (void)state;
    RewardOutput out[4];
    score_by("while read -r line; do case $line in *'<think>2<'*) echo '{\"score\": 0.25, \"reason\": \"two\"}';; "
             "*) echo '{\"score\": 1}';; esac; done",
             5, out, 4);
    for (int i = 0; i < 4; i++) {
        assert_true(out[i].parts[0] == (i == 2 ? 0.25f : 1.0f) && out[i].total == 2 * out[i].parts[0]);
        assert_string_equal(out[i].external_reason, i == 2 ? "two" : "");
    }
}

static void test_external_sees_the_row(void **state)
{
    (void)state;
    RewardOutput out[1];
    score_by("while read -r line; do case $line in *'\"prompt\"'*'\"add 478+295\"'*'\"answer\"'*'\"773\"'*'\"add\"'*) "
             "echo '{\"score\": 1}';; *) echo '{\"score\": 0}';; esac; done",
             5, out, 1);
    assert_true(out[0].parts[0] == 1);
}

static void test_external_hangs(void **state)
{
    (void)state;
    RewardOutput out[3];
    double start = clock_seconds();
    score_by("read -r line; echo '{\"score\": 1}'; sleep 100", 0.3, out, 3);
    assert_true(clock_seconds() - start < 3);
    assert_true(out[0].parts[0] == 1 && out[0].external_reason[0] == '\0');
    for (int i = 1; i < 3; i++) {
        assert_true(out[i].parts[0] == 0 && out[i].applies[0]);
        assert_string_equal(out[i].external_reason, "timeout");
        assert_true(out[i].failed);
    }
    assert_false(out[0].failed);
    /* One that never reads: the pipe fills, the time runs out. */
    static char big[300000];
    memset(big, 'x', sizeof big - 1);
    RewardInput in = input(big);
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .weight = 1, .timeout = 0.3, .startup = 0.4, .command = "sleep 100"};
    RewardOutput one = score_one(&spec, in);
    assert_string_equal(one.external_reason, "timeout: no reply within 0.4 seconds of its start");
}

static void test_external_crashes(void **state)
{
    (void)state;
    RewardOutput out[6];
    /* Dies at the third completion; the rest goes to a fresh process. */
    score_by("while read -r line; do case $line in *'<think>2<'*) exit 1;; esac; echo '{\"score\": 1}'; done", 5, out,
             6);
    for (int i = 0; i < 6; i++) {
        assert_true(out[i].parts[0] == (i == 2 ? 0.0f : 1.0f));
        assert_string_equal(out[i].external_reason, i == 2 ? "crashed" : "");
    }
    score_by("kill -9 $$", 5, out, 6);
    for (int i = 0; i < 6; i++) assert_string_equal(out[i].external_reason, "crashed");
    score_by("no-such-program-here 2>/dev/null", 5, out, 6);
    for (int i = 0; i < 6; i++) assert_string_equal(out[i].external_reason, "crashed");
    /* Its dying neither killed us nor left the signal behind. */
    sigset_t pending;
    sigpending(&pending);
    assert_false(sigismember(&pending, SIGPIPE));
}

static void test_external_bad_replies(void **state)
{
    (void)state;
    static const char *const replies[] = {
        "{\"score\": \"high\"}", "{\"points\": 1}", "{\"score\": NaN}", "{\"score\": null}", "{",
    };
    RewardOutput out[4];
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        char command[256], reason[96];
        snprintf(command, sizeof command,
                 "while read -r l; do case $l in *'<think>1<'*) echo '%s';; *) echo '{\"score\": 1}';; esac; done",
                 replies[i]);
        snprintf(reason, sizeof reason, "bad reply: %s", replies[i]);
        score_by(command, 5, out, 4);
        for (int k = 0; k < 4; k++) {
            assert_true(out[k].parts[0] == (k == 1 ? 0.0f : 1.0f) && out[k].failed == (k == 1));
            assert_string_equal(out[k].external_reason, k == 1 ? reason : "");
        }
    }
    /* Lines that are no object are skipped, before the replies and between them. */
    score_by("echo Loading; while read -r l; do echo 'note: 3'; echo; echo '[1]'; echo '{\"score\": 0.5}'; done", 5,
             out, 4);
    for (int k = 0; k < 4; k++) assert_true(!out[k].failed && out[k].parts[0] == 0.5f);
    score_by("yes", 5, out, 4);
    for (int k = 0; k < 4; k++) assert_string_equal(out[k].external_reason, "bad reply: a megabyte without a reply");
    /* Twice as many replies as requests, without ids: nobody knows whose they are. */
    score_by("for i in 1 2 3 4; do read -r l; done; r='{\"score\": 1}'; printf '%s\\n' \"$r\" \"$r\" \"$r\" \"$r\" "
             "\"$r\"; sleep 9",
             5, out, 4);
    for (int k = 0; k < 4; k++) assert_string_equal(out[k].external_reason, "bad reply: more replies than requests");
}

/* true is 1, false is 0; a number beyond a float stays one, so that it is named. */
static void test_external_values(void **state)
{
    (void)state;
    RewardOutput out[2];
    score_by("while read -r l; do case $l in *'<think>1<'*) echo '{\"score\": true}';; *) echo '{\"score\": false}';; "
             "esac; done",
             5, out, 2);
    assert_true(out[0].parts[0] == 0 && out[1].parts[0] == 1 && !out[0].failed && !out[1].failed);
    score_by("while read -r l; do echo '{\"score\": 1e300}'; done", 5, out, 1);
    assert_true(isinf(out[0].parts[0]) && !out[0].failed);
}

/* Replies with ids may come in any order. */
static void test_external_ids(void **state)
{
    (void)state;
    RewardOutput out[4];
    score_by("python3 -c 'import sys, json\n"
             "rows = [json.loads(sys.stdin.readline()) for _ in range(4)]\n"
             "for r in reversed(rows): print(json.dumps({\"id\": r[\"id\"], \"score\": int(r[\"completion\"][7])}), "
             "flush=True)\n"
             "sys.stdin.read()'",
             20, out, 4);
    for (int k = 0; k < 4; k++) assert_true(!out[k].failed && out[k].parts[0] == (float)k);
}

/* A program may take longer to start than a batch may take; then the time-out counts. */
static void test_external_startup(void **state)
{
    (void)state;
    Status st = {0};
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .weight = 1, .timeout = 0.3, .startup = 20};
    snprintf(spec.command, sizeof spec.command, "sleep 1; read -r l; echo '{\"score\": 1}'; read -r l; sleep 9");
    RewardSet *r = reward_open(&spec, 1, &st);
    RewardInput in = input("<think>0</think><answer>773</answer>"),
                other = input("<think>1</think><answer>773</answer>");
    RewardOutput out;
    assert_true(reward_score(r, &in, &out, 1, &st) && out.parts[0] == 1);
    double start = clock_seconds();
    assert_true(reward_score(r, &other, &out, 1, &st) && out.failed);
    assert_true(clock_seconds() - start < 5);
    char *notice = reward_notice(r);
    assert_non_null(strstr(notice, "reward external: 1 of 1 replies failed (timeout)"));
    free(notice);
    assert_null(reward_notice(r));
    assert_int_equal(reward_failures(r, 0), 1);
    reward_close(r);
}

/* A program that never scored anything stops the run with its own words; of a flood of them the last. */
static void test_external_never_answers(void **state)
{
    (void)state;
    Status st = {0};
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .name = "judge", .weight = 1, .timeout = 5};
    snprintf(spec.command, sizeof spec.command,
             "head -c 300000 /dev/zero | tr '\\0' 'x' >&2; echo >&2; echo 'no module named nothing' >&2; exit 1");
    RewardSet *r = reward_open(&spec, 1, &st);
    RewardInput in = input("<think>0</think><answer>773</answer>");
    RewardOutput out;
    fflush(stderr);
    int saved = dup(2), null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    bool ok = reward_score(r, &in, &out, 1, &st);
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    close(null);
    assert_false(ok);
    assert_true(says(&st, "reward judge: the program `head"));
    assert_true(says(&st, "never gave a score: of 1 requests all failed (crashed)"));
    assert_true(says(&st, "no module named nothing"));
    assert_true(says(&st, "bytes of its standard error were not shown)"));
    reward_close(r);
}

/* What the program wrote instead is in the sentence. */
static void test_external_other_lines(void **state)
{
    (void)state;
    static const char *const commands[] = {"while read -r l; do echo 0.5; done",
                                           "while read -r l; do echo '{\"id\": 99, \"score\": 0.5}'; done"};
    for (int i = 0; i < 2; i++) {
        Status st = {0};
        RewardSpec spec = {.kind = REWARD_EXTERNAL, .name = "judge", .weight = 1, .timeout = 0.3, .startup = 0.3};
        snprintf(spec.command, sizeof spec.command, "%s", commands[i]);
        RewardSet *r = reward_open(&spec, 1, &st);
        RewardInput in = input("<think>0</think><answer>773</answer>");
        RewardOutput out;
        assert_false(reward_score(r, &in, &out, 1, &st));
        assert_true(says(&st, "all failed (timeout"));
        assert_true(says(&st, i ? "answers no request ({\"score\": NUMBER}): {\"id\": 99"
                                : "answers no request ({\"score\": NUMBER}): 0.5"));
        reward_close(r);
    }
}

/* Words of a command, and an edited program as another program. */
static void test_command_hash(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof command, "sh '%s' --k 3", scratch_path("judge.sh"));
    scratch_put("judge.sh", "one", 3);
    uint64_t first = command_hash(command);
    assert_true(first == command_hash(command));
    scratch_put("judge.sh", "two", 3);
    assert_true(first != command_hash(command));
}

/* Replies to nobody are dropped with the program, before they could answer the next batch. */
static void test_external_out_of_step(void **state)
{
    (void)state;
    External *e = external_open("while read -r l; do echo '{\"score\": 1}'; echo '{\"score\": 2}'; done", 5, 5);
    char *lines[] = {"{}"};
    ExternalReply reply;
    for (int i = 0; i < 3; i++) {
        external_score(e, lines, 1, &reply);
        assert_true(reply.failed || reply.score == 1);    /* failed: the second one was there already */
        if (i) assert_true(external_skipped(e) || i > 1); /* the reply to nobody is shown once */
        nanosleep(&(struct timespec){0, 500000000},
                  NULL); /* time for the second line to arrive, on a busy machine too */
    }
    external_close(e);
    /* Its third reply to one request lacks its end yet. */
    e = external_open("read -r l; printf '{\"score\": 1}\\n{\"score\": 0}\\n{\"sco'; read -r l; read -r l", 5, 5);
    char *two[] = {"{}", "{}"};
    ExternalReply replies[2];
    external_score(e, two, 2, replies);
    assert_true(replies[0].failed && replies[1].failed);
    external_close(e);
}

/* The program counts its own calls, so that a repeated reply can only come from the cache. */
static const char counting[] = "n=0; while read -r l; do n=$((n+1)); echo \"{\\\"score\\\": $n}\"; done";

static void test_external_cache(void **state)
{
    (void)state;
    Status st = {0};
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .weight = 1};
    snprintf(spec.command, sizeof spec.command, "%s", counting);
    RewardSet *r = reward_open(&spec, 1, &st);
    RewardInput in[4] = {input("a"), input("b"), input("a"), input("c")};
    RewardOutput out[4];
    long calls, hits, failures;
    for (int round = 0; round < 2; round++) {
        reward_score(r, in, out, 4, &(Status){0});
        assert_true(out[0].parts[0] == 1 && out[1].parts[0] == 2 && out[2].parts[0] == 1 && out[3].parts[0] == 3);
    }
    reward_counts(r, &calls, &hits, &failures);
    assert_int_equal(calls, 3);
    assert_int_equal(hits, 5);
    assert_int_equal(failures, 0);
    const char *path = scratch_path("replies.jsonl");
    assert_true(reward_cache_save(r, path, &st));
    reward_close(r);

    /* A resumed run repeats its replies; a changed command does not. */
    r = reward_open(&spec, 1, &st);
    assert_true(reward_cache_load(r, path, &st));
    reward_score(r, &in[3], out, 1, &(Status){0});
    assert_true(out[0].parts[0] == 3);
    reward_close(r);
    strcat(spec.command, " ");
    r = reward_open(&spec, 1, &st);
    assert_true(reward_cache_load(r, path, &st) && reward_cache_load(r, scratch_path("missing"), &st));
    reward_score(r, &in[3], out, 1, &(Status){0});
    assert_true(out[0].parts[0] == 1);
    scratch_put("bad.jsonl", "{\"key\": 3}\n", 11);
    assert_false(reward_cache_load(r, scratch_path("bad.jsonl"), &st));
    assert_true(says(&st, "line 1"));
    Status full = {0};
    assert_false(reward_cache_save(r, scratch_path("no/such/folder"), &full));
    reward_close(r);
}

static void test_external_failures_are_asked_again(void **state)
{
    (void)state;
    Status st = {0};
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .weight = 1, .timeout = 5};
    const char *flag = scratch_path("second");
    snprintf(spec.command, sizeof spec.command,
             "[ -e %s ] || { touch %s; exit; }; while read -r l; do echo '{\"score\": 1}'; done", flag, flag);
    RewardSet *r = reward_open(&spec, 1, &st);
    RewardInput in = input(good);
    RewardOutput out;
    long calls, hits, failures;
    reward_score(r, &in, &out, 1, &(Status){0});
    assert_string_equal(out.external_reason, "crashed");
    reward_score(r, &in, &out, 1, &(Status){0});
    assert_true(out.parts[0] == 1);
    reward_counts(r, &calls, &hits, &failures);
    assert_true(calls == 2 && hits == 0 && failures == 1);
    reward_close(r);
}

static void test_ten_line_example(void **state)
{
    (void)state;
    if (system("python3 -c pass 2>/dev/null") != 0) skip();
    RewardSpec spec = {.kind = REWARD_EXTERNAL, .weight = 1, .command = "python3 recipes/examples/reward_ten_lines.py"};
    RewardOutput out = score_one(&spec, input(good));
    assert_true(out.parts[0] == 1);
    assert_string_equal(out.external_reason, "enough steps");
    out = score_one(&spec, input("773"));
    assert_true(out.parts[0] == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_overlong),
        cmocka_unit_test(test_repetition),
        cmocka_unit_test(test_routing),
        cmocka_unit_test(test_bad_specs),
        cmocka_unit_test(test_external_success),
        cmocka_unit_test(test_external_sees_the_row),
        cmocka_unit_test(test_external_hangs),
        cmocka_unit_test(test_external_crashes),
        cmocka_unit_test(test_external_bad_replies),
        cmocka_unit_test(test_external_out_of_step),
        cmocka_unit_test(test_external_values),
        cmocka_unit_test(test_external_ids),
        cmocka_unit_test(test_external_startup),
        cmocka_unit_test(test_external_never_answers),
        cmocka_unit_test(test_external_other_lines),
        cmocka_unit_test(test_command_hash),
        cmocka_unit_test(test_external_cache),
        cmocka_unit_test(test_external_failures_are_asked_again),
        cmocka_unit_test(test_ten_line_example),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
