/* The tasks a command line names: built-in ones, or JSONL files in their place. */
#ifndef RECIPES_TASK_SOURCE_H
#define RECIPES_TASK_SOURCE_H

#include "data/corpus.h"

typedef struct TaskSource {
    Source source;
    Dataset *dataset; /* owned; NULL for a built-in task */
    char name[64];
} TaskSource;

/* `name` is a built-in task, or else a file. levels: [0] .. [1], 0: the task's first, its last. heldout: of a file's
 * rows. Fails on an unknown name (with the nearest), levels the task has not. */
bool task_source_open(TaskSource *out, const char *name, const int levels[2], double heldout, bool skip_bad,
                      Status *st);
void task_source_close(TaskSource *s);

#endif
