/* One line of a user's JSONL file: read, checked, verified against. */
#ifndef DATA_DATASET_ROW_H
#define DATA_DATASET_ROW_H

#include "data/dataset.h"

/* Fills everything but line and test from row->row (set; owned by the row from now on). On failure the sentence
 * lacks file and line, and row_free still is the caller's to call. */
bool row_read(DatasetRow *row, Status *st);
void row_free(DatasetRow *row);

/* The verify function of the pseudo-task of a file: by the problem's row. */
Verdict row_verify(const Problem *p, const char *answer);

#endif
