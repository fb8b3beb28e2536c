/* A built-in task or a JSONL file, by its name on the command line. */
#include "recipes/cli/task_source.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "recipes/config/did_you_mean.h"

static bool unknown(const char *name, Status *st)
{
    char hint[96];
    Nearest near = nearest_start(name);
    for (int i = 0; i < task_count(); i++) nearest_try(&near, task_at(i)->name);
    return fail(st, "there is no task and no file '%s'%s; `r1 data --list` names the tasks", name,
                nearest_hint(&near, hint, sizeof hint));
}

static bool open_task(TaskSource *out, const Task *task, const int levels[2], Status *st)
{
    int low = levels[0] ? levels[0] : 1, high = levels[1] ? levels[1] : task->levels;
    if (low > high || high > task->levels)
        return fail(st, "task %s has levels 1 to %d, not %d to %d", task->name, task->levels, low, high);
    *out = (TaskSource){.source = {.task = task, .level_min = low, .level_max = high, .weight = 1.0f}};
    snprintf(out->name, sizeof out->name, "%s", task->name);
    return true;
}

bool task_source_open(TaskSource *out, const char *name, const int levels[2], double heldout, bool skip_bad, Status *st)
{
    const Task *task = task_find(name);
    if (task) return open_task(out, task, levels, st);
    if (access(name, F_OK)) return unknown(name, st);
    Dataset *d = dataset_read(name, heldout, skip_bad, st);
    if (!d) return false;
    const char *slash = strrchr(name, '/');
    *out = (TaskSource){.source = {.dataset = d, .level_min = 1, .level_max = 1, .weight = 1.0f}, .dataset = d};
    snprintf(out->name, sizeof out->name, "%s", slash ? slash + 1 : name);
    return true;
}

void task_source_close(TaskSource *s)
{
    dataset_free(s->dataset);
    *s = (TaskSource){0};
}
