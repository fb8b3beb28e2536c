/* A run's folder: recipe.yaml (resolved), metrics.jsonl, TensorBoard events, samples.jsonl, summary.json, checkpoints/,
 * rollouts/. One process at a time writes to it.
 *
 * metrics.jsonl holds one JSON object a line, in the order things happened:
 *   a step        {"stage", "step", "seconds", "loss", ...}
 *   an evaluation {"stage", "step", "eval": {"TASK": {"pass@1", ..}, .., "all": {..}, "helpful", "safe"}}
 *   a warning     {"stage", "step", "warning": {"name", "what", "evidence", "try"}}
 * and every line gets "wall", the Unix time in seconds. Events mirror the numbers of steps and evaluations as STAGE/KEY. */
#ifndef RECIPES_RUN_FOLDER_H
#define RECIPES_RUN_FOLDER_H

#include <stdint.h>

#include "data/json.h"

typedef struct RunFolder RunFolder;

/* Creates the folder (with its parents) or opens it, and locks it. *resumed: it held this recipe already. Refuses, in one
 * sentence, a folder that another process holds, one with another recipe or seed (naming the key; more steps of a stage that
 * can go on are none), one that is no run folder. */
RunFolder *run_folder_open(const char *path, const char *recipe_text, bool *resumed, Status *st);
void run_folder_close(RunFolder *f);
/* Closes it, and takes it away with the parents that were made for it where it is as it was made: a run that was refused leaves
 * nothing behind. A folder that was there, and one with a step, a checkpoint or a file of somebody else, stay. */
void run_folder_abandon(RunFolder *f);
const char *run_folder_path(const RunFolder *f);
/* The first stage of which the recipe it was opened with asks for more steps than the recipe in it ("": none), and that recipe
 * put in its place. */
const char *run_folder_longer(const RunFolder *f);
bool run_folder_take_recipe(RunFolder *f, const char *recipe_text, Status *st);
/* FOLDER/folder/NAMEsuffix; free(). */
char *run_folder_file(const RunFolder *f, const char *folder, const char *name, const char *suffix);

/* What is kept on resume: of a stage (a unit's name) the steps up to `step`; stages not named lose all. */
typedef struct RunPoint {
    const char *stage;
    int64_t step;
} RunPoint;

/* Cuts metrics.jsonl and the events back to the points; a half-written last line goes too. */
bool run_folder_cut(RunFolder *f, const RunPoint *points, int n, Status *st);

/* Appends a line (takes it over) with "stage" and "step" first. Fails when the disk is full. */
/* Every line that is appended from now on goes to the logger too. */
struct Logger;
void run_folder_log(RunFolder *f, struct Logger *l);
bool run_metrics_append(RunFolder *f, const char *stage, int64_t step, Json *line, Status *st);

/* samples.jsonl: replaces the lines of `stage` by those of the array of {"prompt", "completion", "answer", "correct", "reason"}
 * (takes it over). */
bool run_samples_write(RunFolder *f, const char *stage, Json *samples, Status *st);

/* summary.json, written beside and renamed. Sets a top-level key, or the entry of "stages" of that "name" (appended when new);
 * both take the value over. */
bool run_summary_set(RunFolder *f, const char *key, Json *value, Status *st);
bool run_summary_stage(RunFolder *f, const char *name, Json *entry, Status *st);
bool run_summary_drop(RunFolder *f, const char *name, Status *st);
/* A top-level key, and the entry of a stage; NULL when there is none; views. */
const Json *run_summary_value(const RunFolder *f, const char *key);
const Json *run_summary_get(const RunFolder *f, const char *name);
/* FLOPs that a finished unit took; 0 when it is not there. */
double run_summary_flops(const RunFolder *f, const char *name);

/* Every line of a JSONL file that parses, as one array (a broken line is left out): for reports. Empty when there is no file. */
Json *run_read_lines(const char *folder, const char *name);
/* A file that appears whole or not at all. */
bool run_write_file(const char *path, const char *text, size_t n, Status *st);

#endif
