/* A child process with pipes to its standard streams, in a process group of its own. */
#ifndef DATA_PROCESS_H
#define DATA_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

typedef struct Process {
    pid_t pid;        /* 0: not running; also its process group */
    int in, out, err; /* our ends, not blocking; in is -1 where the process was given a file */
} Process;

/* Starts arguments[0] (found through PATH) with default signals, so that Ctrl-C at our terminal is not also its end.
 * files[0] becomes its standard input (-1: a pipe), the others its descriptors 3, 4, ..; all stay the caller's. No
 * other descriptor of ours is the process's. False: it could not be started. */
bool process_start(Process *p, char *const arguments[], const int *files, int n_files);

/* Closes its input and output, waits up to `patience` milliseconds, then kills its process group. Its standard error
 * stays open for the caller, who closes it. Returns what waitpid says of its end. */
int process_stop(Process *p, int patience);

#endif
