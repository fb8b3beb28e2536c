/* A user's JSONL file, accepted wherever a built-in task is: prompt/completion, messages, preference pairs as TRL spells
 * them, and RL rows {"prompt", "answer", "verifier": integer | rational | exact | expression} (spec: formats section 6). */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "data/task.h"

typedef enum { ROW_TEXT, ROW_COMPLETION, ROW_MESSAGES, ROW_PREFERENCE, ROW_RL, ROW_KINDS } RowKind;

typedef struct DatasetRow {
    RowKind kind;
    int line;          /* 1-based */
    char *prompt;      /* rendered later by prompt_render; messages are joined to (prompt, completion) by their last turn */
    char *completion;  /* or chosen */
    char *rejected;
    char *answer;
    Json *row;
    bool test;         /* in the held-out share: hash of the prompt */
} DatasetRow;

typedef struct Dataset {
    char *path;
    DatasetRow *rows;
    int n, n_train, n_test, skipped;
} Dataset;

/* Reads the whole file. A broken line fails with its number ("FILE: line 7: ..."), or is counted when skip_bad.
 * heldout: share of rows that become the validation set, 0 .. 0.5 (at least one row when > 0 and n > 1). */
Dataset *dataset_read(const char *path, double heldout, bool skip_bad, Status *st);
void dataset_free(Dataset *d);

/* Row number `index` (wrapping) of a split as a problem: task is a pseudo-task named after the file. */
void dataset_problem(Problem *out, const Dataset *d, Split split, uint64_t index);

#endif
