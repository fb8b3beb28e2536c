/* A growing list of token ids. */
#ifndef DATA_IDS_H
#define DATA_IDS_H

#include <stdint.h>

/* Zero-initialise, free(.ids). */
typedef struct Ids {
    int32_t *ids;
    int n, capacity;
} Ids;
void ids_push(Ids *list, int32_t id);

#endif
