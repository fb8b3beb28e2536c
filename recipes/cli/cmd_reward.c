/* r1 reward: a reward before any training, on stored rollouts or on degenerate answers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/ablate/attack.h"
#include "recipes/ablate/rescore.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/run/run_folder.h"

typedef struct RewardArgs {
    const char *target, *with, *attack, *more, *out;
    bool json;
} RewardArgs;

static void print_json(Json *o)
{
    char *text = json_write(o, true);
    puts(text);
    free(text);
    json_free(o);
}

static bool write_page(const char *path, char *text, bool say, Status *st)
{
    bool ok = run_write_file(path, text, strlen(text), st);
    free(text);
    if (ok && say) printf("\npage: %s\n", path);
    return ok;
}

static bool run_attack(const RewardArgs *a, Status *st)
{
    RecipeRewards rewards;
    AttackReport r;
    char title[128];
    if (!reward_text(a->attack, "micro", "rl_reason", &rewards, st)) return false;
    if (attack_list(&r, a->more, st) && attack_run(&r, &rewards, st)) {
        if (a->json) print_json(attack_json(&r));
        else attack_print(&r, stdout);
        snprintf(title, sizeof title, "Attacks on the reward %.90s", a->attack);
        if (a->out) write_page(a->out, attack_page(&r, title), !a->json, st);
    }
    attack_free(&r);
    return !st->failed;
}

static bool run_rescore(const RewardArgs *a, Status *st)
{
    char run[4096], page[8192], title[160];
    const char *slash = strrchr(a->target, '/');
    Rescore r;
    if (!slash || !slash[1] || slash == a->target)
        return fail(st, "%s: expected RUN/stage, as runs/micro/zero", a->target);
    snprintf(run, sizeof run, "%.*s", (int)(slash - a->target), a->target);
    if (!rescore(run, slash + 1, a->with, &r, st)) return false;
    RescoreNumbers n = rescore_numbers(&r);
    if (a->json) print_json(rescore_json(&r, &n));
    else rescore_print(&r, &n);
    snprintf(title, sizeof title, "%.60s scored by %.80s", a->target, a->with);
    snprintf(page, sizeof page, "%s/reward-%s.html", run, slash + 1);
    bool ok = write_page(a->out ? a->out : page, rescore_page(&r, &n, title), !a->json, st);
    rescore_free(&r);
    return ok;
}

int cmd_reward(int argc, char **argv)
{
    RewardArgs a = {0};
    const Option options[] = {
        {"--with", "REWARDS|PROGRAM", OPTION_TEXT, &a.with, 0, 0,
         "scores the stored rollouts of RUN/stage again: rewards as a recipe has them, '{accuracy: 1, format: 0.5}',\n"
         "or a program (JSON lines in, JSON lines out)"},
        {"--attack", "REWARDS|PROGRAM", OPTION_TEXT, &a.attack, 0, 0,
         "puts degenerate answers before it and lists what is paid more than an honest wrong answer"},
        {"--more", "FILE", OPTION_TEXT, &a.more, 0, 0,
         "attacks of yours, JSON lines {\"name\", \"completion\"} with {prompt}, {answer}, {wrong}, {think} filled in"},
        {"--out", "FILE", OPTION_TEXT, &a.out, 0, 0, "the page (default: RUN/reward-STAGE.html; --attack: none)"},
        {"--json", NULL, OPTION_FLAG, &a.json, 0, 0, "JSON instead of the table"},
    };
    const Usage usage = {
        .name = "reward",
        .arguments = "(RUN/STAGE --with REWARDS | --attack REWARDS) [options]",
        .text = "What a reward pays, before anything is trained with it. --with: the stored rollouts of a run scored "
                "again:\n"
                "distribution, agreement with the hidden truth, groups without variance, advantages that change sign.\n"
                "--attack: empty answers, echoes, padding, injected tags and the like on every family of problems.\n",
        .examples = "r1 run micro --until zero\n"
                    "r1 reward runs/micro/zero --with '{accuracy: 1, format: 0.1}'\n"
                    "r1 reward --attack '{accuracy: 1, format: 1, language: 1}'\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 0,
        .most = 1};
    int count, code = command_read(&usage, argc, argv, &a.target, &count);
    Status st = {0};
    if (code != COMMAND_GO) return code;
    if (!a.with == !a.attack) return command_usage(&usage, "give --with (and RUN/STAGE) or --attack");
    if (a.with && !a.target) return command_usage(&usage, "--with needs the rollouts of a stage: RUN/STAGE");
    if (a.attack && a.target) return command_usage(&usage, "--attack takes no run");
    if (a.more && !a.attack) return command_usage(&usage, "--more belongs to --attack");
    return (a.attack ? run_attack(&a, &st) : run_rescore(&a, &st)) ? 0 : command_failed(&st);
}
