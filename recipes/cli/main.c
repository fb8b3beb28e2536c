/* The table of commands, and main. */
#include <stdio.h>
#include <string.h>

#include "recipes/cli/commands.h"
#include "recipes/model/version.h"
#include "recipes/run/interrupt.h"
#include "recipes/model/machine.h"
#include "recipes/config/did_you_mean.h"

typedef struct Command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} Command;

static const Command commands[] = {
    {"run", cmd_run, "runs a recipe, all stages or some, and resumes it"},
    {"ablate", cmd_ablate, "what a setting changes: arms under the same seeds, with a verdict"},
    {"eval", cmd_eval, "a model on held-out problems: pass@1, cons@k, format, language"},
    {"generate", cmd_generate, "continues a prompt or token sequences"},
    {"chat", cmd_chat, "a conversation with a model"},
    {"score", cmd_score, "log-probs, loss, routing and gradients of token sequences"},
    {"import", cmd_import, "a model folder or .gguf file as a checkpoint"},
    {"export", cmd_export, "a model as a Hugging Face folder or a .gguf file"},
    {"inspect", cmd_inspect, "what a model is made of; the stages and rollouts of a run"},
    {"report", cmd_report, "one page of a run, or of several compared"},
    {"paper", cmd_paper, "claims of the DeepSeek papers, run and judged"},
    {"reward", cmd_reward, "a reward before training: on stored rollouts, under attack"},
    {"doctor", cmd_doctor, "this machine; or which warnings the metrics of a run hold"},
    {"bench", cmd_bench, "how close each part is to what the machine can do"},
    {"plan", cmd_plan, "the memory that a recipe or a model will take"},
    {"data", cmd_data, "the tasks, and their problems with worked traces"},
    {"tokenize", cmd_tokenize, "text to token ids and back"},
    {"template", cmd_template, "chat messages to the text a model was trained on"},
};

enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *out)
{
    fprintf(out, "r1: small DeepSeek-R1-style models, trained from one command\n\n"
                 "  r1 COMMAND ...         r1 COMMAND --help         r1 --version\n\n");
    for (int i = 0; i < COMMANDS; i++) fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\nMODEL is a checkpoint (.h5), RUN/STAGE, a Hugging Face folder or a .gguf file.\n"
                 "Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted.\n");
}

static int unknown_command(const char *name)
{
    char hint[128];
    Nearest near = nearest_start(name);
    for (int i = 0; i < COMMANDS; i++) nearest_try(&near, commands[i].name);
    fprintf(stderr, "r1: no command '%s'%s; `r1 --help` lists them\n", name, nearest_hint(&near, hint, sizeof hint));
    return 2;
}

/* The exit code of a command whose output must have been written. */
static int written(int code)
{
    if (!fflush(stdout) && !ferror(stdout)) return code;
    perror("r1: standard output cannot be written");
    return code ? code : 1;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return written(0);
    }
    if (!strcmp(argv[1], "--version")) {
        version_print(stdout);
        return written(0);
    }
    machine_wait_briefly(argv);
    interrupt_catch();
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name)) continue;
        return written(commands[i].run(argc - 1, argv + 1));
    }
    return unknown_command(argv[1]);
}
