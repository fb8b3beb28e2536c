/* r1 doctor: the named warnings over a run's metrics. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/check.h"
#include "recipes/ablate/doctor.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"

int cmd_doctor(int argc, char **argv)
{
    const char *run = NULL;
    bool json = false;
    const Option options[] = {{"--json", NULL, OPTION_FLAG, &json, 0, 0, "JSON instead of text"}};
    const Usage usage = {
        .name = "doctor",
        .arguments = "RUN [options]",
        .text =
            "Reads the metrics of a run that is over or still going, and says which of the named warnings they hold:\n"
            "stage, step, the numbers behind it, what it means and what to try.\n",
        .examples = "r1 run micro --until zero\nr1 doctor runs/micro\n",
        .options = options,
        .n = 1,
        .least = 1,
        .most = 1};
    int count, code = command_read(&usage, argc, argv, &run, &count);
    if (code != COMMAND_GO) return code;
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
