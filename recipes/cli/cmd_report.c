/* r1 report: the HTML page of a run, or of several overlaid. */
#include <stdio.h>

#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/report/report.h"

int cmd_report(int argc, char **argv)
{
    const char *runs[REPORT_RUNS], *out = NULL;
    const Option options[] = {
        {"--out", "FILE", OPTION_TEXT, &out, 0, 0, "default: RUN/report.html, for several FIRST/compare.html"}};
    const Usage usage = {
        "report",
        "RUN [RUN2 ...] [options]",
        "Writes one self-contained HTML page (no network, no scripts) of a run: what every stage changed, learning\n"
        "curves, sampled answers, why answers failed. Several runs are overlaid.\n",
        "r1 run micro --until zero\nr1 report runs/micro\n",
        options,
        1,
        1,
        REPORT_RUNS,
        NULL};
    int count = 0, code = command_read(&usage, argc, argv, runs, &count);
    if (code != COMMAND_GO) return code;
    Status st = {0};
    if (!report_write(runs, count, out, &st)) return command_failed(&st);
    if (out) printf("%s\n", out);
    else printf("%s/%s\n", runs[0], count > 1 ? "compare.html" : "report.html");
    return 0;
}
