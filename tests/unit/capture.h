/* A command of the command line run inside the test: its exit code, what it wrote to standard output and error. */
#ifndef TESTS_UNIT_CAPTURE_H
#define TESTS_UNIT_CAPTURE_H

typedef struct Captured {
    int code;
    char *out, *err; /* of the last run; NUL-terminated */
} Captured;

/* Runs command(argc, argv) with the words of `line` (split at single spaces) as argv. Output goes through files in the
 * test's scratch folder. Free with captured_free. */
Captured capture(int (*command)(int, char **), const char *format, ...) __attribute__((format(printf, 2, 3)));
void captured_free(Captured *c);

#endif
