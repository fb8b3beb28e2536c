/* The command line that runs an interpreter in a sandbox. */
#ifndef DATA_SANDBOX_COMMAND_H
#define DATA_SANDBOX_COMMAND_H

#include "data/sandbox/sandbox.h"

#define SANDBOX_FD      "3" /* where the sandbox reads the program's text */
#define SANDBOX_PROGRAM "/box/program"
enum { SANDBOX_COMMAND = 128 };

typedef struct SandboxCommand {
    char *words[SANDBOX_COMMAND]; /* NULL behind the last */
    int n;
} SandboxCommand;

/* program: a text on SANDBOX_FD becomes the file SANDBOX_PROGRAM and the interpreter's last argument. */
void sandbox_command(SandboxCommand *c, const char *interpreter, const SandboxLimits *limits, bool program);
void sandbox_command_free(SandboxCommand *c);

#endif
