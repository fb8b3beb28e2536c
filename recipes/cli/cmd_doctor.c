/* r1 doctor: the named warnings over a run's metrics, or a page about this machine. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/ablate/doctor.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/cli/machine_page.h"

int cmd_doctor(int argc, char **argv)
{
    const char *run = NULL;
    bool json = false, machine = false, measure = false;
    const Option options[] = {
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, "JSON instead of text"},
        {"--machine", NULL, OPTION_FLAG, &machine, 0, 0, "about this machine, as without a RUN"},
        {"--measure", NULL, OPTION_FLAG, &measure, 0, 0,
         "its rates are measured again (about 6 seconds and a file of 256 MB in the current folder; else once, and "
         "kept)"},
    };
    const Usage usage = {
        .name = "doctor",
        .arguments = "[RUN] [options]",
        .text =
            "Reads the metrics of a run that is over or still going, and says which of the named warnings they hold:\n"
            "stage, step, the numbers behind it, what it means and what to try. Without RUN: a page about this "
            "machine,\n"
            "its processors, memory and their limits, instruction set, disk and rates, the programs that r1 calls, "
            "and\n"
            "which of the known models it can score, adapt and train (a step of 512 tokens).\n",
        .examples = "r1 doctor\nr1 run micro --until zero\nr1 doctor runs/micro\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 0,
        .most = 1};
    int count, code = command_read(&usage, argc, argv, &run, &count);
    if (code != COMMAND_GO) return code;
    if (run && (machine || measure)) return command_usage(&usage, "--machine and --measure are not about a RUN");
    Status fault = {0};
    if (!run) return machine_page_print(json, measure, &fault) ? 0 : command_failed(&fault);
    Diagnosis *d = calloc(1, sizeof *d);
    Status st = {0};
    CHECK(d);
    bool ok = diagnose(run, d, &st);
    if (ok && json) {
        Json *o = diagnosis_json(d);
        char *text = json_write(o, true);
        puts(text);
        free(text);
        json_free(o);
    } else if (ok) {
        diagnosis_print(d);
    }
    free(d);
    return ok ? 0 : command_failed(&st);
}
