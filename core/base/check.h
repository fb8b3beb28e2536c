/* CHECK: our own bug (shape, NULL, index) aborts with file, line and both values, in every build. */
#ifndef CORE_CHECK_H
#define CORE_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "r1: internal error: %s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* CHECK_EQ(a, b): integers that must be equal; both values are printed when they are not. */
#define CHECK_EQ(a, b)                                                                                                 \
    do {                                                                                                               \
        long long check_a_ = (long long)(a), check_b_ = (long long)(b);                                                \
        if (check_a_ != check_b_) {                                                                                    \
            fprintf(stderr, "r1: internal error: %s:%d: %s == %s fails: %lld, %lld\n", __FILE__, __LINE__, #a, #b,     \
                    check_a_, check_b_);                                                                               \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
