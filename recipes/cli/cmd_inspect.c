/* r1 inspect: what a model is made of, and what happened in a run. */
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/cli/inspect.h"

int cmd_inspect(int argc, char **argv)
{
    const char *name, *stage = NULL;
    int count, step = -1, prompt = 0;
    InspectOptions o = {0};
    const Option options[] = {
        {"--stage", "S", OPTION_TEXT, &stage, 0, 0, "of a run: a stage that samples"},
        {"--step", "N", OPTION_INT, &step, 0, 1 << 24, "a step of it"},
        {"--prompt", "P", OPTION_INT, &prompt, 0, 1 << 24, "a prompt of the step (default 0, the first)"},
        {"--tensors", NULL, OPTION_FLAG, &o.tensors, 0, 0, "every tensor in a row of its own"},
        {"--sha256", NULL, OPTION_FLAG, &o.sha256, 0, 0,
         "hash the weights of folders, .gguf files and checkpoints with a base too (reads them all)"},
        {"--base", "DIR", OPTION_TEXT, &o.base, 0, 0, "where the base of a checkpoint lies now, when it was moved"},
        {"--json", NULL, OPTION_FLAG, &o.json, 0, 0, "JSON instead of tables"},
    };
    const Usage usage = {
        .name = "inspect",
        .arguments = "MODEL | RUN [--stage S --step N --prompt P]",
        .text = "A model: config, parameter table, counts, hash of weights. Names of known models need no file:\n"
                "deepseek-v2-lite, deepseek-v2, deepseek-v3, qwen2.5-0.5b, qwen2.5-1.5b, qwen3-0.6b, smollm2-135m.\n"
                "A run: its stages; or one group of rollouts, side by side: tokens, rewards, advantages,\n"
                "verdicts, texts.\n",
        .examples = "r1 inspect deepseek-v2-lite\nr1 run micro --until zero\n"
                    "r1 inspect runs/micro --stage zero --step 1 --prompt 0\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 1,
        .most = 1};
    Status st = {0};
    int code = command_read(&usage, argc, argv, &name, &count);
    if (code != COMMAND_GO) return code;
    if (!stage != (step < 0)) return command_usage(&usage, "--stage and --step go together");
    if (stage) return inspect_group(name, stage, step, prompt, o.json, &st) ? 0 : command_failed(&st);
    if (inspect_run(name, o.json)) return 0;
    return inspect_model(name, &o, &st) ? 0 : command_failed(&st);
}
