#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/check.h"
#include "tests/fuzz/fuzz.h"

/* A file in memory; readers open it by its name under /proc. */
const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("fuzz", 0);
        CHECK(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    CHECK(ftruncate(fd, 0) == 0 && (size == 0 || pwrite(fd, data, size, 0) == (ssize_t)size));
    return path;
}
