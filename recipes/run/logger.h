/* Metrics into a tracker that people have (wandb, trackio), through their own Python client: a process of ten lines
 * that reads the lines of metrics.jsonl as they are written. Nothing of a run depends on it. */
#ifndef RECIPES_LOGGER_H
#define RECIPES_LOGGER_H

#include <stdbool.h>

#include "core/base/status.h"

typedef struct Logger Logger;

/* Starts the process for a run of this name. NULL with a sentence where there is no python3 or no such client, or
 * `client` is none of wandb, trackio. */
Logger *logger_open(const char *client, const char *run_name, Status *st);
/* A line of metrics.jsonl. Once the process is gone, one sentence on stderr, and nothing more. */
void logger_line(Logger *l, const char *line);
/* Waits until it has sent what it has. */
void logger_close(Logger *l);

#endif
