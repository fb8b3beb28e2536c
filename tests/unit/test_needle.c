/* Needles: problems, depths, the grid of what was found; positions extended by YaRN. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"
#include "recipes/model/needle_grid.h"

static void problems(void **state)
{
    (void)state;
    const Task *t = task_find("needle");
    NeedleGrid g = {0};
    for (int i = 0; i < 200; i++) {
        Problem p;
        int level = 1 + i % 6;
        task_problem(&p, t, level, i % 2 ? LANGUAGE_ZH : LANGUAGE_EN, 7, SPLIT_TEST, (uint64_t)i);
        char *open = strchr(p.prompt, '('), wanted[16];
        snprintf(wanted, sizeof wanted, "(%s)", p.answer);
        assert_true(open && strlen(p.answer) == 4 && !strncmp(open, wanted, 6));
        size_t before = strspn(strchr(p.prompt, ' ') + 1, "0123456789"), after = strlen(open + 6);
        assert_int_equal(before + after, needle_length(level));
        assert_true(fabs(needle_depth(p.prompt) - (double)before / (double)(before + after)) < 1e-12);
        char *text = task_completion(&p, p.language, i % 3 ? STYLE_CLEAN : STYLE_CORRUPT, &(Rng){0});
        JudgedText judged = {.problem = &p, .completion = text, .verdict = task_verify(&p, text, false)};
        assert_true((judged.verdict.score >= 1.0f) == (i % 3 > 0));
        needle_grid_add(&g, &judged);
        free(text);
        problem_free(&p);
    }
    long n = 0, found = 0;
    for (int l = 1; l <= NEEDLE_LEVELS; l++)
        for (int d = 0; d < NEEDLE_DEPTHS; d++) n += g.tried[l][d], found += g.found[l][d];
    assert_true(g.all == 200 && n == 200 && found == 133);
    Json *o = needle_grid_json(&g);
    assert_int_equal((int)json_count(json_get(o, "lengths")), 6);
    assert_int_equal(json_integer(json_at(json_get(o, "lengths"), 5)), 1024);
    json_free(o);
    g = (NeedleGrid){0};
    assert_null(needle_grid_json(&g));
}

/* What config_extend makes of a model is what V3's config says of DeepSeek-V3 (docs/model.md 3), at any length. */
static void extended(void **state)
{
    (void)state;
    ModelConfig c = {.arch = ARCH_DEEPSEEK_V3,
                     .attention = ATTENTION_MLA,
                     .V = 8,
                     .C = 8,
                     .L = 1,
                     .H = 1,
                     .Hkv = 1,
                     .Rkv = 4,
                     .Dn = 128,
                     .Dr = 64,
                     .Dv = 8,
                     .F = 8,
                     .eps = 1e-6f,
                     .max_positions = 4096,
                     .bos = -1,
                     .eos = -1,
                     .rope = {.theta = 10000}};
    Status st = {0};
    assert_true(fabs(config_attention_scale(&c) - 0.07216878364870322) < 1e-8);
    if (!config_extend(&c, 40, &st)) fail_msg("%s", st.text);
    double f[32], multiplier;
    config_rope_frequencies(&c, f, &multiplier);
    assert_true(c.max_positions == 163840 && c.rope.original_positions == 4096 && multiplier == 1.0);
    assert_true(fabs(config_attention_scale(&c) - 0.1352337788608801) < 1e-8);
    assert_true(fabs(f[11] - 3.900692657e-02) < 1e-10 && fabs(f[31] - 3.333803580e-06) < 1e-14);
    assert_false(config_extend(&c, 2, &st));
    assert_non_null(strstr(st.text, "scaled already"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(problems), cmocka_unit_test(extended)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
