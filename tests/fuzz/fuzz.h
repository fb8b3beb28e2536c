/* What the fuzz targets share. A target reads one input as a stranger's file: every answer but a crash, a leak, a hang or a
 * failed CHECK is right. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file with these bytes, the same at every call. */
const char *fuzz_file(const uint8_t *data, size_t size);

#endif
