/* A user's JSONL file, accepted wherever a built-in task is: prompt/completion, messages, preference pairs as TRL
 * spells them, and RL rows {"prompt", "answer", "verifier": integer | rational | exact | expression | tests | choice}
 * (spec: formats section 6). */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "data/task.h"

typedef enum { ROW_TEXT, ROW_COMPLETION, ROW_MESSAGES, ROW_PREFERENCE, ROW_RL, ROW_KINDS } RowKind;

typedef struct DatasetRow {
    RowKind kind;
    int line;               /* 1-based */
    PromptKind prompt_kind; /* the row's "kind": reasoning (default), helpful, safety */
    Language language;      /* the row's "language": en, zh; else what most words of the prompt are */
    char *prompt;           /* a user's only message, else the conversation's text for people; "" for text */
    Json *messages;         /* the conversation that is answered (data/conversation.h); NULL for text */
    Json *reply;            /* the messages that answer it; NULL: there is none */
    Json *tools;            /* "tools", or NULL */
    char *completion;       /* the last reply, the chosen one, or the text; RL rows: "trace" and "answer", or NULL */
    char *rejected;         /* preference rows, else NULL */
    char *answer;           /* gold; completion rows without one: the completion's answer part (all, without tags) */
    char *trace;            /* the steps before the answer of a worked solution (GSM8K), or NULL */
    Verifier verifier;      /* of the gold answer */
    Json *row;
    bool test; /* in the held-out share: hash of the prompt */
} DatasetRow;

typedef struct Dataset {
    char *path, *name; /* name: the file's, without folder and ending */
    Task task;         /* the pseudo-task of its problems: named `name`, one level, verifies by the row */
    DatasetRow *rows;  /* the n_train rows of the training share in file order, then the n_test held-out ones */
    int n, n_train, n_test, skipped; /* skipped: broken lines */
    int programs, choices;           /* rows whose answers are programs with tests; with options to choose from */
    double heldout;                  /* the share asked for */
} Dataset;

/* Reads the whole file. A broken line fails with its number ("FILE: line 7: ..."), or is counted when skip_bad;
 * blank lines are nothing. heldout: share of rows that become the validation set, 0 .. 0.5 (at least one row when >
 * 0 and there are two different prompts; rows with equal prompts stay together). A gold answer that its verifier
 * cannot parse is a broken line.
 *
 * RL rows: "answer" is a string or number; "verifier" is exact unless given (rational for numbers); "expression"
 * takes its numbers from "numbers": [..] beside a target, or from a gold expression such as "3*7+5". Rows without an
 * answer are for external rewards: their verdict is always "unparseable". */
Dataset *dataset_read(const char *path, double heldout, bool skip_bad, Status *st);
void dataset_free(Dataset *d);
/* Whether answers to its rows can be judged here: programs need a sandbox. */
bool dataset_judges(const Dataset *d, Status *st);

/* Rows of a split: for the test split those held out, or all where none are. */
int dataset_rows(const Dataset *d, Split split);
/* Row number `index` (wrapping) of a split; a file without held-out rows gives training rows for both. */
const DatasetRow *dataset_row(const Dataset *d, Split split, uint64_t index);
/* The same as a problem; its task and nothing else still belongs to d. */
void dataset_problem(Problem *out, const Dataset *d, Split split, uint64_t index);

#endif
